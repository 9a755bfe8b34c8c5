//! What drives a host's peer over a board, and the home where that is here.
//!
//! A station does nothing by itself: [`Station::turn`] looks at the board, carries messages both
//! ways, and tells what its owner has to do. It reads no clock. Call it often, and at least at
//! [`Station::next_deadline`]: nothing on the board wakes anybody.
//!
//! # What its owner has to do
//! - After [`PeerOutput::Granted`] drop cached lines of the extent where its version is not the one
//!   that was seen last; before [`Station::release`] write back what was written.
//! - After [`PeerOutput::Revoked`], [`PeerOutput::Ended`] and [`StationError::Fenced`] stop the
//!   users; drop all cached lines of the device before [`Station::rejoin`].
//! - One process has a slot. After [`StationError::Replaced`] another one has it as well.
//! - After [`Told::Suspect`] find out whether that host lives, and have it fenced if not. Nothing
//!   is taken from a host before the manager says [`Board::fence`].
//! - After [`Told::Lost`] repair the extent, accept it as it is, or withdraw it.
//!
//! # Why it is right that the home moves
//! The home's records are on the board before what follows from them is sent, so the journal that
//! the next home finds says all that any host was told. The host that had the home is fenced by
//! then. To peers the change is a restart of the home: they send to whoever has it now, and late
//! messages of the old one are late messages.

use std::collections::{BTreeMap, VecDeque};

use pool_core::{Nanos, planted};

use super::encoding::Message;
use super::journal::Journal;
use super::way::{Incoming, Outgoing};
use super::{Board, BoardError, LIFE_MAX, Life};
use crate::cache::Caches;
use crate::host::home::{Home, HomeInput, HomeLimits, HomeOutput, RecoverError};
use crate::host::message::{Ask, Right, ToHome};
use crate::host::peer::{Change, Peer, PeerInput, PeerLimits, PeerOutput};
use crate::host::refusal::Refusal;
use crate::host::row::{Record, Standing};
use crate::simulated::Backing;

/// A station does nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StationError {
    /// The board is not as it must be.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The journal on the board contradicts itself.
    #[error(transparent)]
    Journal(#[from] RecoverError),
    /// This life of the host is fenced: what it writes reaches nobody. End all users, forget all
    /// cached lines, and [join in a new life](Station::rejoin) once the fabric lets the host in.
    #[error("this host, in slot {slot}, is fenced in life {life}")]
    Fenced {
        /// Its slot.
        slot: u8,
        /// Its life.
        life: u64,
    },
    /// Another process began a life of this host since: this one has no part in it, and may have
    /// written over what the other one did. End all users, forget all cached lines, see to it that
    /// one process has the slot, and have this life fenced. Where both began at once the other one
    /// has the same number, and is fenced with it.
    #[error("another process has slot {slot} as well: it is in life {now}, and this was {life}")]
    Replaced {
        /// Its slot.
        slot: u8,
        /// The life of this station.
        life: u64,
        /// The life that the host is in.
        now: u64,
    },
    /// The home is on another host: ask there.
    #[error("the home is not on this host")]
    NotHome,
}

/// What the owner of a station is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Told {
    /// What the peer says; never a message.
    Peer(PeerOutput),
    /// This host has the home from now on, in this term.
    HomeBegins {
        /// Rises with each start of the home.
        term: u64,
    },
    /// Of the home: repair this extent, accept it, or withdraw it.
    Lost {
        /// The extent's number.
        extent: u32,
        /// The last version that was published whole.
        last_good: u64,
    },
    /// Of the home: this host does not give back what others wait for, or was born again.
    Suspect {
        /// Its slot.
        slot: u8,
        /// The life to be fenced.
        life: u64,
    },
    /// Of the home: this host was fenced; what it read is free and what it owned is lost.
    Fenced {
        /// Its slot.
        slot: u8,
        /// The last life that is fenced.
        life: u64,
    },
    /// Of the home: an input was refused and changed nothing. Late copies of messages are.
    Refused(Refusal),
}

/// The home, where it is here.
#[derive(Debug)]
struct Run {
    home: Home,
    journal: Journal,
    /// Of each host that ever joined, its life and how it stands.
    lives: BTreeMap<u8, (u64, Standing)>,
}

/// A host's part in the directory, over a board. See the module.
#[derive(Debug)]
pub struct Station<M, C> {
    board: Board<M, C>,
    slot: u8,
    life: Life,
    /// No life of this host up to this one is used again.
    lived: u64,
    home_limits: HomeLimits,
    peer_limits: PeerLimits,
    peer: Peer,
    run: Option<Run>,
    outgoing: Vec<Outgoing>,
    incoming: Vec<Incoming>,
    /// What goes from the home to the peer of this host, and back.
    within: VecDeque<Message>,
    told: Vec<Told>,
    garbled: u64,
}

impl<M: Backing, C: Caches> Station<M, C> {
    /// Begins a life of the host in `slot`, which joins. No user of it uses the device, and no line
    /// of the device is cached. No other life of it is at work.
    ///
    /// # Errors
    /// [`StationError::Board`].
    pub fn open(
        now: Nanos,
        board: Board<M, C>,
        slot: u8,
        home_limits: HomeLimits,
        peer_limits: PeerLimits,
    ) -> Result<Self, StationError> {
        let shape = board.shape();
        let mut station = Self {
            slot,
            life: Life { number: 0, mark: 0 },
            lived: 0,
            home_limits: HomeLimits {
                extents: shape.extents(),
                ..home_limits
            },
            peer_limits,
            peer: Peer::new(slot, peer_limits),
            run: None,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            within: VecDeque::new(),
            told: Vec::new(),
            garbled: 0,
            board,
        };
        station.rejoin(now)?;
        Ok(station)
    }

    /// Does what there is to do, and tells what happened since the last time.
    ///
    /// # Errors
    /// [`StationError`], for good but where the board comes back.
    pub fn turn(&mut self, now: Nanos) -> Result<Vec<Told>, StationError> {
        self.stands()?;
        self.take_or_leave_the_home(now)?;
        for from in 0..self.incoming.len() {
            self.hear(now, from)?;
        }
        self.see_fences(now)?;
        let home = self.run.as_ref().map(|run| run.home.next_deadline());
        if home.flatten().is_some_and(|due| due <= now) {
            self.step_home(now, HomeInput::Tick)?;
        }
        if self.peer.next_deadline().is_some_and(|due| due <= now) {
            self.step_peer(now, PeerInput::Tick)?;
        }
        self.carry_within(now)?;
        Ok(std::mem::take(&mut self.told))
    }

    /// When a turn is due, besides those that look whether something came.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        let home = self.run.as_ref().and_then(|run| run.home.next_deadline());
        self.peer.next_deadline().into_iter().chain(home).min()
    }

    /// A user of this host wants a right: [`PeerInput::Acquire`].
    ///
    /// # Errors
    /// [`StationError`].
    pub fn acquire(
        &mut self,
        now: Nanos,
        (user, extent): (u64, u32),
        right: Right,
        deadline: Nanos,
    ) -> Result<(), StationError> {
        self.tell_peer(
            now,
            PeerInput::Acquire {
                user,
                extent,
                right,
                deadline,
            },
        )
    }

    /// A user has ended its use, or waits no longer. What it wrote was written back before.
    ///
    /// # Errors
    /// [`StationError`].
    pub fn release(
        &mut self,
        now: Nanos,
        (user, extent): (u64, u32),
        change: Change,
    ) -> Result<(), StationError> {
        self.tell_peer(
            now,
            PeerInput::Release {
                user,
                extent,
                change,
            },
        )
    }

    /// Gives back a grant that no user uses and none waits for.
    ///
    /// # Errors
    /// [`StationError`].
    pub fn give_back(&mut self, now: Nanos, extent: u32) -> Result<(), StationError> {
        self.tell_peer(now, PeerInput::Drop { extent })
    }

    /// After [`PeerOutput::Ended`], [`PeerOutput::JoinRefused`] or [`StationError::Fenced`]: joins
    /// in a new life, which has nothing of the one before: no grant, no home, nothing that was told
    /// to nobody yet.
    ///
    /// # Errors
    /// [`StationError`].
    pub fn rejoin(&mut self, now: Nanos) -> Result<(), StationError> {
        self.board.is_there()?;
        self.life = self.board.begin_life(self.slot, self.lived)?;
        self.lived = self.life.number;
        if !planted!("board.grants_outlive_their_life") {
            self.peer = Peer::new(self.slot, self.peer_limits);
        }
        if !planted!("board.home_outlives_its_life") {
            self.run = None;
        }
        self.within.clear();
        self.told.clear();
        let life = self.life.number;
        // Another process that had the slot by mistake may have written there as well.
        let (board, shape) = (&self.board, self.board.shape());
        let (slot, hosts) = (self.slot, 0..shape.hosts());
        let outgoing = hosts.clone();
        let outgoing = outgoing.map(|to| Outgoing::new(board, shape.way(slot, to), life));
        let incoming = hosts.map(|from| Incoming::new(board, shape.way(from, slot)));
        (self.outgoing, self.incoming) = (outgoing.collect(), incoming.collect());
        self.step_peer(now, PeerInput::Join { boot: life })
    }

    /// A lost extent has content again: that of the last good version, or, where none is named,
    /// what is there. For the home's host.
    ///
    /// # Errors
    /// [`StationError::NotHome`], [`StationError`].
    pub fn mended(
        &mut self,
        now: Nanos,
        extent: u32,
        version: Option<u64>,
    ) -> Result<(), StationError> {
        self.tell_home(
            now,
            match version {
                Some(version) => HomeInput::Repaired { extent, version },
                None => HomeInput::Accepted { extent },
            },
        )
    }

    /// A lost or free extent is given up for good. For the home's host.
    ///
    /// # Errors
    /// [`StationError::NotHome`], [`StationError`].
    pub fn withdraw(&mut self, now: Nanos, extent: u32) -> Result<(), StationError> {
        self.tell_home(now, HomeInput::Withdrawn { extent })
    }

    /// The home, where it is here.
    #[must_use]
    pub fn home(&self) -> Option<&Home> {
        self.run.as_ref().map(|run| &run.home)
    }

    /// This host's peer.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The life that this host is in.
    #[must_use]
    pub const fn life(&self) -> u64 {
        self.life.number
    }

    /// How many messages came that no correct host writes.
    #[must_use]
    pub const fn garbled(&self) -> u64 {
        self.garbled
    }

    /// Whether this life may still write what is its own.
    fn stands(&self) -> Result<(), StationError> {
        self.board.is_there()?;
        let (slot, life) = (self.slot, self.life.number);
        if self.board.fenced(slot)? >= life {
            return Err(StationError::Fenced { slot, life });
        }
        let found = self.board.life_now(slot)?;
        let now = found.number;
        let is_mine = found.mark == self.life.mark || planted!("board.a_life_is_its_number");
        if now != life || !is_mine {
            return Err(StationError::Replaced { slot, life, now });
        }
        Ok(())
    }

    /// The home begins here where the manager says so, and ends where it says otherwise.
    fn take_or_leave_the_home(&mut self, now: Nanos) -> Result<(), StationError> {
        if self.board.home()? != Some(self.slot) {
            self.run = None;
            return Ok(());
        }
        if self.run.is_some() {
            return Ok(());
        }
        let (journal, records) = Journal::read(&self.board)?;
        let lives = records.iter().filter_map(life_in).collect();
        let (home, outputs) = Home::recover(now, self.home_limits, records)?;
        let term = home.term();
        self.run = Some(Run {
            home,
            journal,
            lives,
        });
        self.told.push(Told::HomeBegins { term });
        self.perform_home(outputs)
    }

    /// Takes what has come from one host.
    fn hear(&mut self, now: Nanos, from: usize) -> Result<(), StationError> {
        let Some(way) = self.incoming.get_mut(from) else {
            return Ok(());
        };
        let (messages, garbled) = way.take(&self.board);
        self.garbled = self.garbled.saturating_add(garbled);
        for message in messages {
            match message {
                Message::ToHome(ToHome {
                    ask: Ask::Join { boot },
                    ..
                }) if boot > LIFE_MAX => self.garbled = self.garbled.saturating_add(1),
                Message::ToHome(message) if usize::from(message.from) == from => {
                    // Where the home is elsewhere by now it is asked again there.
                    if self.run.is_some() {
                        self.step_home(now, HomeInput::Message(message))?;
                    }
                }
                Message::ToPeer(message) if message.to == self.slot => {
                    self.step_peer(now, PeerInput::Message(message))?;
                }
                _ => self.garbled = self.garbled.saturating_add(1),
            }
        }
        Ok(())
    }

    /// Tells the home whom the manager has fenced.
    fn see_fences(&mut self, now: Nanos) -> Result<(), StationError> {
        let Some(run) = &self.run else {
            return Ok(());
        };
        for (slot, (life, standing)) in run.lives.clone() {
            let fenced = self.board.fenced(slot)?;
            let is_due = fenced >= life && standing != Standing::Fenced;
            let era = self.run.as_ref().and_then(|run| {
                let home = &run.home;
                home.member(slot).or(home.condemned(slot))
            });
            let (Some(era), true) = (era, is_due) else {
                continue;
            };
            let host = slot;
            self.step_home(now, HomeInput::Condemn { host, era })?;
            self.step_home(now, HomeInput::HostFenced { host, era })?;
            self.told.push(Told::Fenced { slot, life: fenced });
        }
        Ok(())
    }

    fn tell_peer(&mut self, now: Nanos, input: PeerInput) -> Result<(), StationError> {
        self.stands()?;
        self.step_peer(now, input)?;
        self.carry_within(now)
    }

    fn tell_home(&mut self, now: Nanos, input: HomeInput) -> Result<(), StationError> {
        self.stands()?;
        // It may have been given to another host since the last turn.
        self.take_or_leave_the_home(now)?;
        if self.run.is_none() {
            return Err(StationError::NotHome);
        }
        self.step_home(now, input)?;
        self.carry_within(now)
    }

    /// Carries what the home and the peer of this host tell each other, until both are silent.
    fn carry_within(&mut self, now: Nanos) -> Result<(), StationError> {
        while let Some(message) = self.within.pop_front() {
            match message {
                Message::ToHome(message) => self.step_home(now, HomeInput::Message(message))?,
                Message::ToPeer(message) => self.step_peer(now, PeerInput::Message(message))?,
            }
        }
        Ok(())
    }

    fn step_peer(&mut self, now: Nanos, input: PeerInput) -> Result<(), StationError> {
        for output in self.peer.step(now, input) {
            match output {
                PeerOutput::Send(message) => {
                    // Where there is no home it is asked again.
                    if let Some(home) = self.board.home()? {
                        self.post(home, Message::ToHome(message));
                    }
                }
                PeerOutput::JoinRefused { latest } => {
                    self.lived = self.lived.max(latest);
                    self.told.push(Told::Peer(output));
                }
                _ => self.told.push(Told::Peer(output)),
            }
        }
        Ok(())
    }

    fn step_home(&mut self, now: Nanos, input: HomeInput) -> Result<(), StationError> {
        let Some(run) = &mut self.run else {
            return Ok(());
        };
        let outputs = run.home.step(now, input);
        self.perform_home(outputs)
    }

    fn perform_home(&mut self, outputs: Vec<HomeOutput>) -> Result<(), StationError> {
        for output in outputs {
            let told = match output {
                HomeOutput::Record(record) => {
                    self.record(&record)?;
                    continue;
                }
                HomeOutput::Send(message) => {
                    self.post(message.to, Message::ToPeer(message));
                    continue;
                }
                // The manager's word is looked for in each turn.
                HomeOutput::Fence { .. } => continue,
                HomeOutput::Lost { extent, last_good } => Told::Lost { extent, last_good },
                HomeOutput::Suspect { host, .. } => Told::Suspect {
                    slot: host,
                    life: self.life_of(host),
                },
                HomeOutput::Refused(why) => Told::Refused(why),
            };
            self.told.push(told);
        }
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<(), StationError> {
        let Some(run) = &mut self.run else {
            return Ok(());
        };
        run.lives.extend(life_in(record));
        if planted!("board.journal_is_not_written") && matches!(record, Record::Extent { .. }) {
            return Ok(());
        }
        Ok(run.journal.write(&self.board, record)?)
    }

    fn life_of(&self, slot: u8) -> u64 {
        let lives = self.run.as_ref().map(|run| &run.lives);
        let known = lives.and_then(|lives| lives.get(&slot));
        known.map_or(0, |(life, _)| *life)
    }

    fn post(&mut self, to: u8, message: Message) {
        if to == self.slot {
            self.within.push_back(message);
        } else if let Some(way) = self.outgoing.get_mut(usize::from(to)) {
            way.send(&self.board, message);
        }
    }
}

/// Which life of a host a record names, and how that stands.
fn life_in(record: &Record) -> Option<(u8, (u64, Standing))> {
    match record {
        Record::Host {
            slot,
            boot,
            standing,
            ..
        } => Some((*slot, (*boot, *standing))),
        Record::Term { .. } | Record::Extent { .. } => None,
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
