//! What is in the way of a device, in words for operators: said once, until it is something else.

use fabric_emu::cci::ReturnCode;

use super::{Capacity, Steward, Terms, Whose};

/// Why a device does not get what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// Nobody has ever answered at its mailbox.
    NobodyAnswers,
    /// It does not say how its regions lie.
    Refused(ReturnCode),
    /// It has no such region, or none that can be numbered in extents.
    NoRegion(u8),
    /// Its manager does not answer.
    ManagerIsSilent,
    /// Its manager gives nothing.
    NotGiven(ReturnCode),
}

impl Note {
    /// Once the device is reached, it is out of the way.
    const fn is_of_reach(self) -> bool {
        matches!(
            self,
            Self::NobodyAnswers | Self::Refused(_) | Self::NoRegion(_)
        )
    }

    fn text(self, terms: &Terms) -> String {
        let ld = terms.ld.0;
        match self {
            Self::NobodyAnswers => format!(
                "nobody answers for logical device {ld}: look whether the fabric is served, \
                 whether the host is bound to it, and whether ld is right"
            ),
            Self::Refused(code) => format!("the device does not tell its regions ({code:?})"),
            Self::NoRegion(region) => format!(
                "region {region} is none, or its blocks are not of whole extents: name another one"
            ),
            Self::ManagerIsSilent => "the manager of the device does not answer".to_owned(),
            Self::NotGiven(ReturnCode::ResourcesExhausted) => {
                "the manager has no more to give".to_owned()
            }
            Self::NotGiven(code) => format!(
                "the manager adds nothing to logical device {ld} ({code:?}): look whether ld and \
                 region are right"
            ),
        }
    }
}

impl Steward {
    /// The engine is told, where it is something else than before.
    pub(super) fn note(&mut self, note: Option<Note>) {
        if self.noted != note {
            self.noted = note;
            let text = note.map(|note| note.text(&self.terms)).unwrap_or_default();
            if note.is_none_or(Note::is_of_reach) {
                self.say(Whose::Groups, Capacity::Noted(text.clone()));
            }
            self.say(Whose::Own, Capacity::Noted(text));
        }
    }

    /// A whole round has been answered.
    pub(super) fn is_reached(&mut self) {
        self.was_reached = true;
        if self.noted.is_some_and(Note::is_of_reach) {
            self.note(None);
        }
    }
}
