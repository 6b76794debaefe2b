//! Where the objects of an archive lie, below its folder.

/// The object that says what the folder is.
pub(super) const ARCHIVE: &str = "archive.json";

/// The note of when everything in it was last found whole.
pub(super) const VERIFIED: &str = "verified.json";

/// The folder of a chain.
pub(super) fn chain(chain: u32) -> String {
    format!("chains/{chain:08}")
}

/// The folder of a chain's manifests.
pub(super) fn units(chain: u32) -> String {
    format!("{}/units", self::chain(chain))
}

/// The manifest of a unit.
pub(super) fn manifest(chain: u32, unit: u32) -> String {
    format!("{}/{unit:08}.json", units(chain))
}

/// Chain and unit of a manifest's path.
pub(super) fn parse_manifest(path: &str) -> Option<(u32, u32)> {
    let (chain, unit) = path.strip_prefix("chains/")?.split_once("/units/")?;
    let found = (chain.parse().ok()?, unit.strip_suffix(".json")?.parse().ok()?);
    (manifest(found.0, found.1) == path).then_some(found)
}

/// Number of a chain's folder.
pub(super) fn parse_chain(folder: &str) -> Option<u32> {
    let number = folder.parse().ok()?;
    (folder == format!("{number:08}")).then_some(number)
}

/// Topic and partition of a segment's path.
pub(super) fn parse_segment(path: &str) -> Option<(&str, i32)> {
    let (_, rest) = path.strip_prefix("chains/")?.split_once("/data/")?;
    let (folder, file) = rest.rsplit_once('/')?;
    let (topic, partition) = folder.rsplit_once('/')?;
    file.ends_with(".seg").then_some(())?;
    Some((topic, partition.parse().ok()?))
}

/// Says that a chain is being pruned: what is left of it counts no more.
pub(super) fn pruned(chain: u32) -> String {
    format!("{}/pruned", self::chain(chain))
}

/// The folder of a partition's segments.
pub(super) fn data(chain: u32, topic: &str, partition: i32) -> String {
    format!("{}/data/{topic}/{partition:05}", self::chain(chain))
}

/// A segment; `tag` tells tries of one unit apart.
pub(super) fn segment(chain: u32, topic: &str, partition: i32, base_offset: i64, unit: u32, tag: u32) -> String {
    format!("{}/{base_offset:020}-{unit:08}-{tag:08x}.seg", data(chain, topic, partition))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_known_by_its_path() {
        assert_eq!(parse_manifest(&manifest(3, 17)), Some((3, 17)));
        for other in ["chains/00000001/units/1.json", "chains/1/units/00000001.json"] {
            assert_eq!(parse_manifest(other), None, "{other}");
        }
        for other in ["chains/00000001/data/t/00000/x.seg", "archive.json", "chains/a/units/1.json", "chains/1/units/1"]
        {
            assert_eq!(parse_manifest(other), None, "{other}");
        }
    }

    #[test]
    fn topic_and_partition_of_a_segment_are_known_by_its_path() {
        assert_eq!(parse_segment(&segment(1, "a.b", 7, 500, 3, 0xabc)), Some(("a.b", 7)));
        assert_eq!(parse_segment(&manifest(1, 1)), None);
        assert_eq!((parse_chain("00000012"), parse_chain("12"), parse_chain("x")), (Some(12), None, None));
    }
}
