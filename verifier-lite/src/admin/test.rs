//! `policy test`: what would become of devices under a policy that nobody has signed or bound yet.

use super::{ErrorCode, ErrorView, Office, Response, TestView, find, parse_id, summary, views};
use crate::policy::{self, EffectivePolicy, reappraise};
use crate::store::{DeviceId, DeviceRecord};

/// Devices in one response: each is appraised whole.
const PAGE: usize = 50;

/// Most deviations shown of one device.
const MAX_SHOWN: usize = 20;

pub(super) fn run(
    office: &Office<'_>,
    now: u64,
    source: &serde_json::Value,
    device: Option<&str>,
    after: Option<&str>,
) -> Result<Response, ErrorView> {
    let text = source.to_string();
    let policy = policy::from_json(text.as_bytes())
        .map_err(|error| ErrorView::new(ErrorCode::Refused, error.to_string()))?;
    let effective = office.policies.if_it_were(office.store, &policy, now)?;
    let (devices, more) = if let Some(device) = device {
        (vec![find(office.store, device)?], false)
    } else {
        let after = after.map(parse_id).transpose()?;
        let page = office.store.devices(after.as_ref(), PAGE)?;
        let more = page.len() == PAGE;
        (page, more)
    };
    let devices = devices
        .iter()
        .map(|(id, record)| of_device(office, now, *id, record, &effective));
    Ok(Response::Tested {
        devices: devices.collect::<Result<_, _>>()?,
        more,
    })
}

fn of_device(
    office: &Office<'_>,
    now: u64,
    id: DeviceId,
    record: &DeviceRecord,
    policy: &EffectivePolicy,
) -> Result<TestView, ErrorView> {
    let settled = reappraise::evaluate(office.store, &id, record, policy, now)?;
    let would_be = settled
        .as_ref()
        .map(|settled| settled.tier.word().to_owned());
    let settled = settled.unwrap_or_default();
    let shown = settled.deviations.iter().take(MAX_SHOWN);
    Ok(TestView {
        id: id.to_string(),
        name: record.name.clone(),
        now: summary(office, now, id, record)?.verdict,
        would_be,
        reasons: settled
            .reasons
            .iter()
            .map(|r| r.token().to_owned())
            .collect(),
        deviations: shown.map(|found| views::deviation(found, None)).collect(),
        count: settled.deviations.len() as u64,
    })
}
