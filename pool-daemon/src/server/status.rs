//! The one place where a refusal becomes a gRPC status.
//!
//! The status carries the whole refusal: the code for generic clients, the sentence as its message,
//! and class, reason and numbers as metadata, so that no program has to read the sentence:
//! `tierpool-class: caller`, `tierpool-reason: not_found`, and the numbers `tierpool-limit`,
//! `tierpool-used` and `tierpool-asked`.

use pool_proto::common::v1::{Error, ErrorClass, ErrorReason};
use pool_proto::names::Named as _;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The most bytes of a message that travel. It goes into a header, of which a peer takes 16 KiB.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The refusal as a status.
pub(super) fn from_error(error: &Error) -> Status {
    let mut status = Status::new(
        code(error.class(), error.reason()),
        shortened(&error.message),
    );
    let metadata = status.metadata_mut();
    for (key, word) in [
        ("tierpool-class", error.class().word()),
        ("tierpool-reason", error.reason().word()),
    ] {
        // Names of enumerators are ASCII, so that the conversion has no way to fail.
        if let Ok(word) = MetadataValue::try_from(word) {
            metadata.insert(key, word);
        }
    }
    for (key, number) in [
        ("tierpool-limit", error.limit),
        ("tierpool-used", error.used),
        ("tierpool-asked", error.asked),
    ] {
        metadata.insert(key, MetadataValue::from(number));
    }
    status
}

/// Somebody the transport could not identify.
pub(super) fn nobody() -> Status {
    Status::unauthenticated(
        "the connection proves no identity: call over the Unix socket, or over TLS with a client \
         certificate",
    )
}

/// The reactor has ended.
pub(super) fn stopping() -> Status {
    Status::unavailable("the daemon is shutting down; subscribe again when it is back")
}

/// The engine did not answer in time.
pub(super) fn too_slow(waited_ms: u128) -> Status {
    Status::deadline_exceeded(format!(
        "the daemon did not answer within {waited_ms} ms; a change may or may not have been made: \
         look before you ask again"
    ))
}

/// The engine answered another question than was asked.
pub(super) fn mismatched() -> Status {
    Status::internal("the daemon answered another question than was asked: report this as a bug")
}

/// A receiver of events fell behind.
pub(super) fn missed(events: u64) -> Status {
    from_error(&Error {
        class: ErrorClass::Exhausted.into(),
        reason: ErrorReason::Limit.into(),
        message: format!(
            "{events} events were missed, since this receiver reads too slowly; look at the pool \
             anew, and subscribe again"
        ),
        asked: events,
        ..Error::default()
    })
}

fn code(class: ErrorClass, reason: ErrorReason) -> Code {
    use ErrorReason as R;
    match reason {
        R::Malformed | R::Version | R::OutOfRange | R::BadName => Code::InvalidArgument,
        R::NotFound | R::UnknownClient => Code::NotFound,
        R::NameTaken => Code::AlreadyExists,
        R::NotPermitted => Code::PermissionDenied,
        R::OverQuota | R::TierFull | R::MachineShort | R::WindowFull | R::Limit => {
            Code::ResourceExhausted
        }
        R::OutOfOrder | R::NotAtBoundary | R::Unsealed | R::InUse | R::Sealed => {
            Code::FailedPrecondition
        }
        R::Busy | R::Revoked => Code::Aborted,
        R::Lost => Code::DataLoss,
        R::DeviceFailed | R::JournalFailed => Code::Unavailable,
        R::Unspecified => code_of_class(class),
    }
}

fn code_of_class(class: ErrorClass) -> Code {
    match class {
        ErrorClass::Caller => Code::InvalidArgument,
        ErrorClass::Exhausted => Code::ResourceExhausted,
        ErrorClass::Lost | ErrorClass::Revoked => Code::Aborted,
        ErrorClass::Unreachable => Code::Unavailable,
        ErrorClass::Corrupt => Code::DataLoss,
        ErrorClass::Unspecified => Code::Internal,
    }
}

fn shortened(message: &str) -> String {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    let (kept, _) = message.split_at(end);
    format!("{kept} ...")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(class: ErrorClass, reason: ErrorReason) -> Error {
        Error {
            class: class.into(),
            reason: reason.into(),
            message: "tenant a may use 4 extents of ddr, uses 3, and asked for 2".to_owned(),
            limit: 4,
            used: 3,
            asked: 2,
        }
    }

    #[test]
    fn a_status_carries_the_whole_refusal() {
        let status = from_error(&refusal(ErrorClass::Exhausted, ErrorReason::OverQuota));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.message().contains("uses 3"));
        let told = |key: &str| {
            status
                .metadata()
                .get(key)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert_eq!(told("tierpool-class"), "exhausted");
        assert_eq!(told("tierpool-reason"), "over_quota");
        let numbers = ["limit", "used", "asked"].map(|n| told(&format!("tierpool-{n}")));
        assert_eq!(numbers, ["4", "3", "2"]);
    }

    #[test]
    fn no_refusal_is_mistaken_for_success_or_for_an_unknown_error() {
        for class in (0..=6).map(|n| ErrorClass::try_from(n).unwrap()) {
            for reason in (0..99).filter_map(|n| ErrorReason::try_from(n).ok()) {
                let code = from_error(&refusal(class, reason)).code();
                assert!(
                    !matches!(code, Code::Ok | Code::Unknown),
                    "{class:?} {reason:?}"
                );
            }
        }
    }

    #[test]
    fn a_class_or_reason_of_a_later_version_is_still_a_refusal() {
        let mut error = refusal(ErrorClass::Caller, ErrorReason::NotFound);
        (error.class, error.reason) = (99, 99);
        assert_eq!(from_error(&error).code(), Code::Internal);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let mut error = refusal(ErrorClass::Caller, ErrorReason::BadName);
        error.message = "\u{e4}".repeat(MESSAGE_BYTES_MAX);
        let status = from_error(&error);
        assert!(status.message().len() <= MESSAGE_BYTES_MAX + 4);
        assert!(status.message().ends_with(" ..."));
    }
}
