//! What a store could not do, and of what kind that is.

use std::error::Error;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// There is no such object.
    Missing,
    /// There is no such bucket, container or folder: nothing can be said about objects in it.
    NoPlace,
    /// The place knows us not, or does not let us.
    Unauthorised,
    /// Not reached, busy or full: later it may work.
    Passing,
    /// Anything else; trying again will not help.
    Other,
}

/// Why a place could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened as it is configured.
    #[error("destination {place}: {detail}")]
    Config {
        /// URL.
        place: String,
        /// What is wrong.
        detail: String,
    },
    /// A request failed.
    #[error("destination {place}: {operation} of {path}: {detail}")]
    Failed {
        /// URL.
        place: String,
        /// What was asked for.
        operation: &'static str,
        /// Of which object.
        path: String,
        /// Of what kind the failure is.
        kind: StoreErrorKind,
        /// What the store said, without secrets.
        detail: String,
    },
    /// There is no place at all.
    #[error("the archive has no destination")]
    NoCopy,
}

impl StoreError {
    fn kind(&self) -> Option<StoreErrorKind> {
        match self {
            Self::Failed { kind, .. } => Some(*kind),
            Self::Config { .. } | Self::NoCopy => None,
        }
    }

    /// Whether the object is not there.
    pub fn is_missing(&self) -> bool {
        self.kind() == Some(StoreErrorKind::Missing)
    }

    /// Whether it is about the place and not about one object: whatever else is asked for there fails as well.
    pub fn is_of_the_place(&self) -> bool {
        use StoreErrorKind::{NoPlace, Passing, Unauthorised};
        matches!(self.kind(), Some(NoPlace | Passing | Unauthorised))
    }

    /// Whether there is no such bucket, container or folder.
    pub fn is_without_place(&self) -> bool {
        self.kind() == Some(StoreErrorKind::NoPlace)
    }

    /// Whether the place does not let us in, or does not answer.
    pub fn is_unreachable_or_unauthorised(&self) -> bool {
        self.is_of_the_place()
    }
}

/// Kind and text of object_store's error; what of `secrets` a store quotes is left out.
pub(super) fn classify(error: &object_store::Error, secrets: &[String]) -> (StoreErrorKind, String) {
    let text = redacted(whole_text(error), secrets);
    let kind = match error {
        object_store::Error::NotFound { .. } if is_place_missing(&text) => StoreErrorKind::NoPlace,
        object_store::Error::NotFound { .. } => StoreErrorKind::Missing,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            StoreErrorKind::Unauthorised
        }
        _ => by_cause(error, &text),
    };
    let asks_the_machine = kind == StoreErrorKind::Passing && text.contains("169.254.169.254");
    let hint = " (no credentials are given: neither under options nor in the environment)";
    (kind, text + if asks_the_machine { hint } else { "" })
}

/// 404 may be about the bucket: that is no missing object, which may be written.
fn is_place_missing(text: &str) -> bool {
    ["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"].iter().any(|word| text.contains(word))
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The messages of an error and its causes; most of them quote their cause already.
fn whole_text(error: &object_store::Error) -> String {
    let mut text = String::new();
    for part in chain(error).map(ToString::to_string) {
        if !text.contains(part.trim()) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(part.trim());
        }
    }
    text
}

fn by_cause(error: &object_store::Error, text: &str) -> StoreErrorKind {
    if let Some(kind) = chain(error).find_map(of_http).or_else(|| chain(error).find_map(of_io)) {
        return kind;
    }
    if ["ExpiredToken", "InvalidToken", "TokenRefreshRequired"].iter().any(|word| text.contains(word)) {
        return StoreErrorKind::Unauthorised;
    }
    // The error type of retries cannot be named from outside; its text is all there is.
    let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
    match status {
        Some(401 | 403) => StoreErrorKind::Unauthorised,
        Some(408 | 409 | 429 | 500..) => StoreErrorKind::Passing,
        // Some stores begin an answer with 200 and put the failure in its body.
        None if text.contains("Server returned error response") => StoreErrorKind::Passing,
        _ => StoreErrorKind::Other,
    }
}

fn of_http(error: &(dyn Error + 'static)) -> Option<StoreErrorKind> {
    match error.downcast_ref::<HttpError>()?.kind() {
        HttpErrorKind::Connect | HttpErrorKind::Request | HttpErrorKind::Timeout | HttpErrorKind::Interrupted => {
            Some(StoreErrorKind::Passing)
        }
        _ => None,
    }
}

fn of_io(error: &(dyn Error + 'static)) -> Option<StoreErrorKind> {
    use io::ErrorKind::{
        HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable, NotConnected, PermissionDenied, QuotaExceeded,
        ReadOnlyFilesystem, ResourceBusy, StaleNetworkFileHandle, StorageFull, TimedOut, WouldBlock,
    };
    match error.downcast_ref::<io::Error>()?.kind() {
        PermissionDenied | ReadOnlyFilesystem => Some(StoreErrorKind::Unauthorised),
        HostUnreachable
        | Interrupted
        | NetworkDown
        | NetworkUnreachable
        | NotConnected
        | QuotaExceeded
        | ResourceBusy
        | StaleNetworkFileHandle
        | StorageFull
        | TimedOut
        | WouldBlock => Some(StoreErrorKind::Passing),
        _ => None,
    }
}

/// Stores do quote what they were sent.
fn redacted(text: String, secrets: &[String]) -> String {
    let worth = secrets.iter().filter(|secret| secret.len() >= 4);
    worth.fold(text, |text, secret| text.replace(secret, "[redacted]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    fn kind(error: &object_store::Error) -> StoreErrorKind {
        classify(error, &[]).0
    }

    #[test]
    fn the_status_tells_what_may_pass() {
        let status = |status: &str| kind(&generic(&format!("Server returned non-2xx status code: {status}: <Error/>")));
        assert_eq!(status("503 Service Unavailable"), StoreErrorKind::Passing);
        assert_eq!(status("429 Too Many Requests"), StoreErrorKind::Passing);
        assert_eq!(status("403 Forbidden"), StoreErrorKind::Unauthorised);
        assert_eq!(status("400 Bad Request"), StoreErrorKind::Other);
        assert_eq!(kind(&generic("400: <Code>ExpiredToken</Code>")), StoreErrorKind::Unauthorised);
    }

    #[test]
    fn a_full_disk_may_pass_and_a_closed_folder_does_not() {
        let io =
            |kind: io::ErrorKind| object_store::Error::Generic { store: "local", source: io::Error::from(kind).into() };
        assert_eq!(kind(&io(io::ErrorKind::StorageFull)), StoreErrorKind::Passing);
        assert_eq!(kind(&io(io::ErrorKind::PermissionDenied)), StoreErrorKind::Unauthorised);
        assert_eq!(kind(&io(io::ErrorKind::InvalidData)), StoreErrorKind::Other);
    }

    #[test]
    fn a_missing_bucket_is_no_missing_object() {
        let missing =
            |text: &str| object_store::Error::NotFound { path: "a".to_owned(), source: text.to_owned().into() };
        assert_eq!(kind(&missing("<Code>NoSuchKey</Code>")), StoreErrorKind::Missing);
        assert_eq!(kind(&missing("<Code>NoSuchBucket</Code>")), StoreErrorKind::NoPlace);
    }

    #[test]
    fn secrets_are_not_quoted() {
        let (_, text) = classify(&generic("the token hunter22 is wrong"), &["hunter22".to_owned()]);
        assert!(text.ends_with("the token [redacted] is wrong"), "{text}");
    }
}
