//! Why something was not done. Nothing has changed then.

use crate::cci::ReturnCode;

/// What was wrong with a command. The words after it say which rule it broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field has a value that it may not have, here and now: mend it.
    #[error("invalid input: {0}")]
    Input(&'static str),
    /// A list of extents names what is not there, or names it twice: read the list anew.
    #[error("invalid extent list: {0}")]
    Extents(&'static str),
    /// An extent is at addresses where nothing of the kind is.
    #[error("invalid physical address: {0}")]
    Address(&'static str),
    /// There is no room for it: release something first.
    #[error("resources exhausted: {0}")]
    Exhausted(&'static str),
    /// It may be done once somebody has read an event log: try again then.
    #[error("retry required: {0}")]
    Retry(&'static str),
    /// Something of the kind is under way: try again once it ended.
    #[error("busy: {0}")]
    Busy(&'static str),
    /// The component does not do this: do not ask again.
    #[error("unsupported: {0}")]
    Unsupported(&'static str),
}

impl From<Refusal> for ReturnCode {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Input(_) => Self::InvalidInput,
            Refusal::Extents(_) => Self::InvalidExtentList,
            Refusal::Address(_) => Self::InvalidPhysicalAddress,
            Refusal::Exhausted(_) => Self::ResourcesExhausted,
            Refusal::Retry(_) => Self::RetryRequired,
            Refusal::Busy(_) => Self::Busy,
            Refusal::Unsupported(_) => Self::Unsupported,
        }
    }
}
