//! What the home knows of one extent and must not forget: the row that is journaled.

use std::collections::BTreeMap;

use pool_core::planted;

use super::message::Right;

/// Who holds an extent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Nobody.
    #[default]
    Free,
    /// These slots may read: the ticket of each one's grant.
    Shared(BTreeMap<u8, u64>),
    /// This host may read and write.
    Owned {
        /// Its slot.
        slot: u8,
        /// The ticket of its grant.
        ticket: u64,
    },
    /// A writer died in it: nobody gets it until it is repaired, accepted or withdrawn.
    Lost {
        /// The last version that was published whole.
        last_good: u64,
    },
    /// Nobody gets it any more.
    Withdrawn,
}

/// One extent, as it is journaled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Row {
    /// Rises with each exclusive grant and each loss.
    pub epoch: u64,
    /// Rises with each published change and each loss.
    pub version: u64,
    /// Who holds it.
    pub state: State,
}

/// A grant that stands in the way of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub(super) slot: u8,
    pub(super) ticket: u64,
    /// What its holder may keep.
    pub(super) to: Right,
}

impl Row {
    /// What `slot` holds, and by which ticket.
    #[must_use]
    pub fn held_by(&self, slot: u8) -> Option<(u64, Right)> {
        match &self.state {
            State::Shared(holders) => holders.get(&slot).map(|ticket| (*ticket, Right::Shared)),
            State::Owned {
                slot: owner,
                ticket,
            } if *owner == slot => Some((*ticket, Right::Exclusive)),
            _ => None,
        }
    }

    /// What `slot` holds by this very ticket.
    pub(super) fn right_of(&self, slot: u8, ticket: u64) -> Right {
        match self.held_by(slot) {
            Some((held, right)) if held == ticket => right,
            _ => Right::Nothing,
        }
    }

    /// Which grants must be given back before `slot` gets `right`: also an older one of its own,
    /// which it never received.
    pub(super) fn obstacles(&self, slot: u8, right: Right) -> Vec<Obstacle> {
        match &self.state {
            State::Owned {
                slot: owner,
                ticket,
            } => {
                let keeps = right == Right::Shared && *owner != slot;
                vec![Obstacle {
                    slot: *owner,
                    ticket: *ticket,
                    to: if keeps { Right::Shared } else { Right::Nothing },
                }]
            }
            State::Shared(holders) => {
                let mut obstacles: Vec<_> = holders
                    .iter()
                    .filter(|(holder, _)| right == Right::Exclusive || **holder == slot)
                    .map(|(holder, ticket)| Obstacle {
                        slot: *holder,
                        ticket: *ticket,
                        to: Right::Nothing,
                    })
                    .collect();
                if planted!("host.one_reader_is_overlooked") {
                    obstacles.pop();
                }
                obstacles
            }
            _ => Vec::new(),
        }
    }

    /// Gives `slot` the right. The caller has seen that there are no obstacles.
    pub(super) fn grant(&mut self, slot: u8, ticket: u64, right: Right) {
        if right == Right::Exclusive {
            if !planted!("host.epoch_does_not_rise") {
                self.epoch += 1;
            }
            self.state = State::Owned { slot, ticket };
        } else if let State::Shared(holders) = &mut self.state {
            holders.insert(slot, ticket);
        } else {
            self.state = State::Shared(BTreeMap::from([(slot, ticket)]));
        }
    }

    /// Takes back what `slot` holds, down to `keep`.
    pub(super) fn give_back(&mut self, slot: u8, keep: Right) {
        match &mut self.state {
            State::Shared(holders) if keep == Right::Nothing => {
                holders.remove(&slot);
                if holders.is_empty() {
                    self.state = State::Free;
                }
            }
            State::Owned {
                slot: owner,
                ticket,
            } if *owner == slot => {
                self.state = match keep {
                    Right::Nothing => State::Free,
                    _ => State::Shared(BTreeMap::from([(slot, *ticket)])),
                };
            }
            _ => {}
        }
    }

    /// Its owner died, or tore it. The new version is one that nobody has `seen`: what the owner's
    /// host may still cache and what is repaired must not be mistaken for each other.
    pub(super) fn lose(&mut self, seen: u64) {
        let last_good = self.version;
        self.epoch += 1;
        if !planted!("host.loss_keeps_the_version") {
            self.version = seen + 1;
        }
        self.state = State::Lost { last_good };
    }
}

/// How a host stands to the home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Standing {
    /// It is a member.
    Member = 1,
    /// It is heard no more, and is being fenced. What it holds, nobody gets.
    Condemned = 2,
    /// Its era is over.
    Fenced = 3,
}

/// A change of the home's state that must be durable before what follows it is sent. The last row
/// of each key counts, so that a journal may be read twice, or keep the last ones only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Record {
    /// How often the home began.
    Term {
        /// The number of this start.
        term: u64,
    },
    /// A host.
    Host {
        /// Its slot.
        slot: u8,
        /// Rises with each time it joins.
        era: u64,
        /// The life of it that joined last.
        boot: u64,
        /// How it stands to the home.
        standing: Standing,
    },
    /// An extent.
    Extent {
        /// Its number on the device.
        extent: u32,
        /// What is known of it.
        row: Row,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(holders: &[(u8, u64)]) -> Row {
        Row {
            epoch: 1,
            version: 5,
            state: State::Shared(holders.iter().copied().collect()),
        }
    }

    #[test]
    fn a_writer_waits_for_every_reader_and_a_reader_for_the_writer_only() {
        let row = shared(&[(1, 10), (2, 20)]);
        assert_eq!(row.obstacles(3, Right::Exclusive).len(), 2);
        assert_eq!(row.obstacles(3, Right::Shared), []);
        let owned = Row {
            state: State::Owned { slot: 1, ticket: 7 },
            ..Row::default()
        };
        assert_eq!(owned.obstacles(2, Right::Shared)[0].to, Right::Shared);
        assert_eq!(owned.obstacles(2, Right::Exclusive)[0].to, Right::Nothing);
    }

    #[test]
    fn an_older_grant_of_ones_own_stands_in_the_way() {
        let row = shared(&[(1, 10), (2, 20)]);
        let obstacles = row.obstacles(1, Right::Shared);
        assert_eq!(obstacles.len(), 1);
        assert_eq!((obstacles[0].slot, obstacles[0].ticket), (1, 10));
    }

    #[test]
    fn the_last_reader_who_leaves_frees_the_extent() {
        let mut row = shared(&[(1, 10), (2, 20)]);
        row.give_back(1, Right::Nothing);
        assert_eq!(row, shared(&[(2, 20)]));
        row.give_back(2, Right::Shared);
        assert_eq!(row, shared(&[(2, 20)]));
        row.give_back(2, Right::Nothing);
        assert_eq!(row.state, State::Free);
    }

    #[test]
    fn a_loss_raises_epoch_and_version_and_remembers_the_last_good_one() {
        let mut row = Row {
            epoch: 3,
            version: 8,
            state: State::Owned { slot: 1, ticket: 7 },
        };
        row.lose(8);
        assert_eq!((row.epoch, row.version), (4, 9));
        assert_eq!(row.state, State::Lost { last_good: 8 });
    }
}
