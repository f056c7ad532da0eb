//! The names of the log's files.

/// The file of the commit mark.
pub(in crate::store) const MARK: &str = "acknowledged";

/// The suffix of a file that is not complete.
pub(super) const NEW: &str = ".new";

const SEGMENT: &str = "log-";
const SNAPSHOT: &str = "snapshot-";

/// The segment whose first frame comes after the frame with that number.
pub(super) fn segment(after: u64) -> String {
    format!("{SEGMENT}{:020}", after + 1)
}

/// The snapshot of the log up to the frame with that number.
pub(super) fn snapshot(last: u64) -> String {
    format!("{SNAPSHOT}{last:020}")
}

/// The number of the first frame of the segment with that name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    number(name.strip_prefix(SEGMENT)?)
}

/// The number of the last frame that the snapshot with that name replaces.
pub(super) fn snapshot_number(name: &str) -> Option<u64> {
    number(name.strip_prefix(SNAPSHOT)?)
}

fn number(digits: &str) -> Option<u64> {
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Whether a file with that name belongs to the log.
pub(in crate::store) fn is_log_file(name: &str) -> bool {
    let plain = name.strip_suffix(NEW).unwrap_or(name);
    plain == MARK || segment_number(plain).or(snapshot_number(plain)).is_some()
}
