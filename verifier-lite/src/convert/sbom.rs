//! Digests of files in software bills of materials, all in JSON: SPDX 2.3 (clause 8, "File information"), SPDX 3
//! (`software_File`, in the compact form of its JSON-LD that the specification demands) and CycloneDX
//! (1.2 and later: components of type `file`).
//!
//! Names of files are taken relative to the root of the image. Files of source code, which an SBOM of a build lists
//! too, are left out where SPDX 3 says that they are.

use super::{ConvertError, Imported, Place, absolute, parse_json};
use crate::manifest::FileEntry;

/// Reads an SBOM of either kind.
pub fn read(bytes: &[u8]) -> Result<Imported, ConvertError> {
    let document = parse_json(bytes)?;
    let root = Place::root(&document);
    if let Some(version) = root.get("spdxVersion") {
        return match version.text()? {
            "SPDX-2.2" | "SPDX-2.3" => spdx(&root),
            _ => Err(version.wrong("is not SPDX-2.2 or SPDX-2.3")),
        };
    }
    if let Some(format) = root.get("bomFormat") {
        return match format.text()? {
            "CycloneDX" => cyclonedx(&root),
            _ => Err(format.wrong("is not CycloneDX")),
        };
    }
    if let Some(graph) = root.get("@graph") {
        return spdx3(&graph);
    }
    Err(root.wrong(
        "is neither SPDX 2.3 (\"spdxVersion\"), SPDX 3 (\"@graph\") nor CycloneDX (\"bomFormat\")",
    ))
}

fn spdx(root: &Place<'_>) -> Result<Imported, ConvertError> {
    let mut imported = Imported {
        name: root
            .get("name")
            .map(|name| name.text().map(str::to_owned))
            .transpose()?,
        ..Imported::default()
    };
    let mut without = 0;
    let files = match root.get("files") {
        Some(files) => files.items()?,
        None => Vec::new(),
    };
    for file in files {
        let name = file.must("fileName")?;
        let hashes = file.must("checksums")?;
        let hashes = sha256_of(&hashes, "algorithm", "SHA256", "checksumValue")?;
        without += usize::from(!add(&mut imported, &name, hashes)?);
    }
    imported.leave_out(without, "files without a SHA-256 checksum");
    if let Some(packages) = root.get("packages") {
        imported.leave_out(packages.items()?.len(), "packages, which are no files");
    }
    imported.not_empty("$.files")
}

fn spdx3(graph: &Place<'_>) -> Result<Imported, ConvertError> {
    let mut imported = Imported::default();
    let (mut without, mut sources, mut packages) = (0, 0, 0);
    for element in graph.items()? {
        let kind = element.must("type")?;
        match kind.text()? {
            "SpdxDocument" => {
                let name = element.get("name");
                imported.name = name
                    .map(|name| name.text().map(str::to_owned))
                    .transpose()?;
            }
            "CreationInfo" => {
                let version = element.must("specVersion")?;
                if !version.text()?.starts_with("3.") {
                    return Err(version.wrong("is not a version of SPDX 3"));
                }
            }
            "software_File" => {
                let purpose = element.get("software_primaryPurpose");
                if purpose.is_some_and(|purpose| purpose.value == "source") {
                    sources += 1;
                    continue;
                }
                let hashes = match element.get("verifiedUsing") {
                    Some(hashes) => sha256_of(&hashes, "algorithm", "sha256", "hashValue")?,
                    None => Vec::new(),
                };
                without += usize::from(!add(&mut imported, &element.must("name")?, hashes)?);
            }
            "software_Package" => packages += 1,
            // Relations, people, licences: nothing that a device could run.
            _ => {}
        }
    }
    imported.leave_out(without, "files without a sha256 hash");
    imported.leave_out(sources, "files of source code");
    imported.leave_out(packages, "packages, which are no files");
    imported.not_empty("$.@graph")
}

fn cyclonedx(root: &Place<'_>) -> Result<Imported, ConvertError> {
    let mut imported = Imported::default();
    if let Some(image) = root.get("metadata").and_then(|m| m.get("component")) {
        let text = |name| {
            let place = image.get(name);
            place
                .map(|place| place.text().map(str::to_owned))
                .transpose()
        };
        imported.name = text("name")?;
        imported.version = text("version")?;
    }
    let mut skipped = Skipped::default();
    if let Some(components) = root.get("components") {
        of_components(&components, &mut imported, &mut skipped)?;
    }
    imported.leave_out(skipped.without, "files without a SHA-256 hash");
    imported.leave_out(skipped.others, "components that are no files");
    imported.not_empty("$.components")
}

/// How many components a manifest has no place for.
#[derive(Default)]
struct Skipped {
    /// Files without a digest that we have.
    without: usize,
    /// Libraries, applications, firmware: what is no file.
    others: usize,
}

/// Components have components; the JSON parser bounds how deep.
fn of_components(
    components: &Place<'_>,
    imported: &mut Imported,
    skipped: &mut Skipped,
) -> Result<(), ConvertError> {
    for component in components.items()? {
        if component.must("type")?.text()? == "file" {
            let hashes = match component.get("hashes") {
                Some(hashes) => sha256_of(&hashes, "alg", "SHA-256", "content")?,
                None => Vec::new(),
            };
            skipped.without += usize::from(!add(imported, &component.must("name")?, hashes)?);
        } else {
            skipped.others += 1;
        }
        if let Some(inner) = component.get("components") {
            of_components(&inner, imported, skipped)?;
        }
    }
    Ok(())
}

/// The digests in an array of `{algorithm: NAME, value: HEX}`.
fn sha256_of(
    hashes: &Place<'_>,
    algorithm: &str,
    name: &str,
    value: &str,
) -> Result<Vec<crate::manifest::FileDigest>, ConvertError> {
    let mut digests = Vec::new();
    for hash in hashes.items()? {
        if hash.must(algorithm)?.text()? == name {
            digests.push(hash.must(value)?.sha256()?);
        }
    }
    Ok(digests)
}

/// Adds a file; false if there is no digest of it.
fn add(
    imported: &mut Imported,
    name: &Place<'_>,
    digests: Vec<crate::manifest::FileDigest>,
) -> Result<bool, ConvertError> {
    let path = absolute(name.text()?)
        .ok_or_else(|| name.wrong("is not a path inside a root file system"))?;
    let known = !digests.is_empty();
    if known {
        imported.files.push(FileEntry { path, digests });
    }
    Ok(known)
}
