use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use super::*;
use crate::store::{Deviation, Expected, RedbStore};
use crate::test_util::TempDir;
use socket::ClientError;

const A: DeviceId = DeviceId([0xA1; 16]);
const B: DeviceId = DeviceId([0xA2; 16]);

fn record(name: Option<&str>) -> DeviceRecord {
    DeviceRecord {
        name: name.map(ToOwned::to_owned),
        ..DeviceRecord::new(vec![1], vec![2], 1_000)
    }
}

fn filled(dir: &TempDir) -> RedbStore {
    let mut store = RedbStore::open_or_create(dir.path()).unwrap();
    let changes = [
        Change::PutDevice(A, record(Some("gate"))),
        Change::PutDevice(B, record(None)),
    ];
    store.commit(&changes, Durability::Immediate).unwrap();
    store
}

fn handle(store: &mut dyn Store, now: u64, request: &Request) -> (Response, Option<Effect>) {
    let mut office = Office {
        store,
        policies: &Policies::default(),
        key: None,
        refused: &[],
    };
    super::handle(&mut office, now, request)
}

fn refusal(store: &mut dyn Store, request: &Request) -> ErrorCode {
    match handle(store, 9, request) {
        (Response::Error(error), None) => error.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_goes_by_name_or_by_a_prefix_that_fits_no_other() {
    let dir = TempDir::new("admin");
    let mut store = filled(&dir);
    let mut show = |device: &str| {
        let request = Request::DeviceShow {
            device: device.into(),
        };
        match handle(&mut store, 9, &request).0 {
            Response::Device(device) => Ok(device.summary.id),
            Response::Error(error) => Err(error.code),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(show("gate"), Ok(A.to_string()));
    assert_eq!(show("A2"), Ok(B.to_string()));
    assert_eq!(show(&A.to_string()), Ok(A.to_string()));
    assert_eq!(show("a"), Err(ErrorCode::Ambiguous));
    assert_eq!(show("ff"), Err(ErrorCode::NoSuchDevice));
    assert_eq!(show(""), Err(ErrorCode::BadRequest));
}

#[test]
fn decisions_are_stored_and_the_engine_is_told() {
    let dir = TempDir::new("admin");
    let mut store = filled(&dir);
    let admit = Request::DeviceAdmit {
        device: "a2".into(),
        by: "ann".into(),
        name: Some("door".into()),
    };
    let (response, effect) = handle(&mut store, 9, &admit);
    assert!(matches!(&response, Response::Changed(d) if d.name.as_deref() == Some("door")));
    assert_eq!(effect, Some(Effect::AdmissionChanged(B)));
    let stored = store.device(&B).unwrap().unwrap();
    assert_eq!(
        stored.admission,
        Admission::Admitted {
            by: "ann".into(),
            at: 9
        }
    );

    let refuse = Request::DeviceRefuse {
        device: "door".into(),
        by: "bob".into(),
    };
    assert_eq!(
        handle(&mut store, 10, &refuse).1,
        Some(Effect::AdmissionChanged(B))
    );
    let stored = store.device(&B).unwrap().unwrap();
    assert_eq!(
        stored.admission,
        Admission::Refused {
            by: "bob".into(),
            at: 10
        }
    );

    let remove = Request::DeviceRemove {
        device: "door".into(),
    };
    assert_eq!(
        handle(&mut store, 11, &remove).1,
        Some(Effect::DeviceRemoved(B))
    );
    assert_eq!(store.device(&B).unwrap(), None);
    assert_eq!(refusal(&mut store, &remove), ErrorCode::NoSuchDevice);
}

#[test]
fn a_name_is_printable_and_one_devices_only() {
    let dir = TempDir::new("admin");
    let mut store = filled(&dir);
    let mut rename = |device: &str, name: &str| {
        let request = Request::DeviceRename {
            device: device.into(),
            name: name.into(),
        };
        match handle(&mut store, 9, &request).0 {
            Response::Changed(device) => Ok(device.name.unwrap()),
            Response::Error(error) => Err(error.code),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(rename("a2", "gate"), Err(ErrorCode::NameTaken));
    assert_eq!(rename("a2", "\u{1b}[2J"), Err(ErrorCode::BadRequest));
    assert_eq!(rename("a2", &"x".repeat(65)), Err(ErrorCode::BadRequest));
    assert_eq!(rename("gate", "gate"), Ok("gate".into()));
    assert_eq!(rename("a2", "door"), Ok("door".into()));
    assert_eq!(store.device(&A).unwrap(), Some(record(Some("gate"))));
}

#[test]
fn a_list_comes_page_by_page_and_misses_nobody() {
    let dir = TempDir::new("admin");
    let mut store = RedbStore::open_or_create(dir.path()).unwrap();
    let id = |n: usize| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(n as u64).to_be_bytes());
        DeviceId(id)
    };
    let count = 2 * PAGE + 1;
    let puts: Vec<_> = (0..count)
        .map(|n| Change::PutDevice(id(n), record(None)))
        .collect();
    store.commit(&puts, Durability::Immediate).unwrap();
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let request = Request::DeviceList {
            after: seen.last().cloned(),
        };
        let Response::Devices { devices, more, .. } = handle(&mut store, 9, &request).0 else {
            panic!("no list");
        };
        pages += 1;
        seen.extend(devices.into_iter().map(|device| device.id));
        if !more {
            break;
        }
    }
    assert_eq!(pages, 3);
    assert_eq!(
        seen,
        (0..count).map(|n| id(n).to_string()).collect::<Vec<_>>()
    );
}

#[test]
fn an_explanation_joins_admission_verdict_and_deviations() {
    let dir = TempDir::new("admin");
    let mut store = filled(&dir);
    let deviation = |n: u64| Deviation {
        reason: "file-unknown".into(),
        since: 5,
        record: Some(n),
        pcr: Some(10),
        path: Some(b"/tmp/\x1b\xFF".to_vec()),
        measured: Some(vec![0xAB; 32]),
        expected: vec![Expected {
            value: vec![1],
            source: "edge-1".into(),
        }],
        note: None,
    };
    let many = MAX_EXPLAINED as u64 + 10;
    let mut changes: Vec<_> = (0..many)
        .map(|n| Change::AddDeviation(A, deviation(n)))
        .collect();
    let reasons = ["file-unknown", "from-the-future"]
        .map(ToOwned::to_owned)
        .to_vec();
    let tier = Tier::Contraindicated;
    changes.push(Change::AddVerdict(
        A,
        VerdictRecord {
            at: 6,
            boot: 1,
            tier,
            reasons,
        },
    ));
    store.commit(&changes, Durability::Immediate).unwrap();

    let request = Request::Explain {
        device: "gate".into(),
    };
    let Response::Explanation(explanation) = handle(&mut store, 9, &request).0 else {
        panic!("no explanation");
    };
    let tokens: Vec<_> = explanation
        .reasons
        .iter()
        .map(|r| r.reason.as_str())
        .collect();
    assert_eq!(
        tokens,
        ["admission-pending", "file-unknown", "from-the-future"]
    );
    let pending = &explanation.reasons[0];
    assert!(
        pending.action.contains("motectl device admit a1a1a1a1"),
        "{}",
        pending.action
    );
    let unknown = &explanation.reasons[1];
    assert_eq!(unknown.deviations.len(), MAX_EXPLAINED);
    assert_eq!(
        unknown.deviations[0].path.as_deref(),
        Some("/tmp/\\x1b\\xff")
    );
    assert_eq!(explanation.deviations, many);
    assert_eq!(explanation.reasons[2].meaning, explain::UNKNOWN.meaning);
}

#[test]
fn the_socket_carries_requests_and_outlives_bad_clients() {
    let dir = TempDir::new("admin");
    let call = |request: &Request| socket::call(dir.path(), request);
    assert!(matches!(call(&Request::Ping), Err(ClientError::NotRunning)));

    let listener = socket::listen(dir.path()).unwrap();
    let path = dir.path().join(socket::FILE);
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let bad: [&[u8]; 3] = [b"{\"op\":\"no-such\"}\n", b"not json\n", &[b'x'; 5000]];
    let served = std::thread::spawn(move || {
        let mut results = Vec::new();
        for _ in 0..5 {
            let stream = listener.accept().unwrap().0;
            results.push(socket::serve(&stream, &mut |request| match request {
                Request::Ping => Response::Pong,
                _ => panic!("nobody asked for {request:?}"),
            }));
        }
        results
    });
    for bytes in bad {
        let mut stream = UnixStream::connect(&path).unwrap();
        // The far end hangs up on what is no whole line.
        let _ = stream.write_all(bytes);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        let _ = std::io::Read::read_to_string(&mut stream, &mut answer);
        assert!(
            answer.is_empty() || answer.contains("bad-request"),
            "{answer}"
        );
    }
    drop(UnixStream::connect(&path).unwrap());
    assert_eq!(call(&Request::Ping).unwrap(), Response::Pong);
    let results = served.join().unwrap();
    let good: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, true, false, false, true]);

    // A killed verifier leaves its socket behind; the next one takes its place.
    assert!(path.exists());
    assert!(matches!(call(&Request::Ping), Err(ClientError::NotRunning)));
    let _listener = socket::listen(dir.path()).unwrap();
    socket::unlink(dir.path()).unwrap();
    assert!(!path.exists());
}
