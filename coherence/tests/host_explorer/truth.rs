//! The oracle: what is true of the device's memory and of its users, whatever home and peers
//! believe. It knows no message but the one by which a host says that it wrote back.

use std::collections::{BTreeMap, BTreeSet};

use coherence::host::{Ask, Change, Outcome, PeerOutput, Right};

/// What an extent contains: a mark for each published change, or a mixture.
type Mark = u64;

/// A version and what it contains.
type Content = (u64, Mark);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Extent {
    /// `None` where a writer died.
    memory: Option<Content>,
    /// What was ever published under which version.
    published: BTreeMap<u64, Mark>,
    users: BTreeMap<(u8, u64), (Right, u64)>,
    /// What the owner has published to users of its own host only.
    local: BTreeMap<u8, Content>,
    /// The lines that each host may still have in its caches.
    caches: BTreeMap<u8, Content>,
    /// The last epoch in which someone might write, whose it is, and whether it is over.
    writer: (u64, u8, bool),
}

impl Default for Extent {
    fn default() -> Self {
        Self {
            memory: Some((0, 0)),
            published: BTreeMap::from([(0, 0)]),
            users: BTreeMap::new(),
            local: BTreeMap::new(),
            caches: BTreeMap::new(),
            writer: (0, 0, true),
        }
    }
}

/// What is true.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Truth {
    extents: BTreeMap<u32, Extent>,
    dead: BTreeSet<(u8, u64)>,
    fenced: BTreeSet<(u8, u64)>,
}

impl Truth {
    /// Eras whose host is dead and not fenced.
    pub(crate) fn to_fence(&self) -> Vec<(u8, u64)> {
        self.dead.difference(&self.fenced).copied().collect()
    }

    pub(crate) fn is_fenced(&self, slot: u8, era: u64) -> bool {
        self.fenced.contains(&(slot, era))
    }

    /// Whether the outputs of a peer change anything here.
    pub(crate) fn concerns(outputs: &[PeerOutput]) -> bool {
        outputs.iter().any(|output| match output {
            PeerOutput::Send(message) => matches!(message.ask, Ask::Release { .. }),
            PeerOutput::Granted { .. } | PeerOutput::Revoked { .. } => true,
            _ => false,
        })
    }

    /// Follows what a peer of this era has done, and says what was wrong with it.
    pub(crate) fn follow(
        &mut self,
        slot: u8,
        era: u64,
        outputs: &[PeerOutput],
    ) -> Result<(), String> {
        if self.is_fenced(slot, era) {
            return Ok(());
        }
        for output in outputs {
            match *output {
                PeerOutput::Granted {
                    user,
                    extent,
                    right,
                    epoch,
                    version,
                } => {
                    let extent = self.extents.entry(extent).or_default();
                    extent.granted((slot, user), right, epoch, version)?;
                }
                PeerOutput::Revoked { user, extent } => {
                    let extent = self.extents.entry(extent).or_default();
                    extent.users.remove(&(slot, user));
                }
                PeerOutput::Send(message) => {
                    if let Ask::Release {
                        extent,
                        epoch,
                        outcome,
                        ..
                    } = message.ask
                    {
                        let extent = self.extents.entry(extent).or_default();
                        extent.told(slot, epoch, outcome);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A user ends its use.
    pub(crate) fn released(&mut self, slot: u8, era: u64, user: u64, extent: u32, change: Change) {
        if self.is_fenced(slot, era) {
            return;
        }
        let extent = self.extents.entry(extent).or_default();
        let Some((_, version)) = extent.users.remove(&(slot, user)) else {
            return;
        };
        match change {
            Change::None => {}
            Change::Torn => {
                extent.local.remove(&slot);
                extent.memory = None;
            }
            Change::Published => {
                let version = version + 1;
                let mark = (u64::from(slot) << 56) | (era << 48) | (extent.writer.0 << 24);
                extent.local.insert(slot, (version, mark | version));
            }
        }
    }

    /// The host ends here: what it was writing is a mixture.
    pub(crate) fn killed(&mut self, slot: u8, era: Option<u64>) {
        if let Some(era) = era {
            if !self.is_fenced(slot, era) {
                self.stop_writing(slot);
            }
            self.dead.insert((slot, era));
        }
        for extent in self.extents.values_mut() {
            extent.users.retain(|(holder, _), _| *holder != slot);
            extent.caches.remove(&slot);
        }
    }

    /// The fabric cuts this era off.
    pub(crate) fn fenced(&mut self, slot: u8, era: u64) {
        let first = self.fenced.insert((slot, era));
        if first && !self.dead.contains(&(slot, era)) {
            self.stop_writing(slot);
            for extent in self.extents.values_mut() {
                extent.users.retain(|(holder, _), _| *holder != slot);
            }
        }
    }

    /// The host joins anew: it has promised that it caches nothing.
    pub(crate) fn joins(&mut self, slot: u8) {
        for extent in self.extents.values_mut() {
            extent.caches.remove(&slot);
        }
    }

    fn stop_writing(&mut self, slot: u8) {
        for extent in self.extents.values_mut() {
            let writes = extent
                .users
                .iter()
                .any(|((holder, _), (right, _))| *holder == slot && *right == Right::Exclusive);
            if extent.local.remove(&slot).is_some() || writes {
                extent.memory = None;
            }
        }
    }

    /// A lost extent gets content: of the last good version, or what is there.
    pub(crate) fn mended(&mut self, number: u32, last_good: u64, version: u64, accept: bool) {
        let extent = self.extents.entry(number).or_default();
        let mark = match (accept, extent.memory) {
            (false, _) => extent.published.get(&last_good).copied().unwrap_or(0),
            (true, Some((_, mark))) => mark,
            (true, None) => (255 << 56) | version,
        };
        extent.memory = Some((version, mark));
        extent.published.insert(version, mark);
    }
}

impl Extent {
    fn granted(
        &mut self,
        user: (u8, u64),
        right: Right,
        epoch: u64,
        version: u64,
    ) -> Result<(), String> {
        let slot = user.0;
        let writes = right == Right::Exclusive;
        for (other, (held, _)) in &self.users {
            if writes || *held == Right::Exclusive {
                return Err(format!("a writer beside others: {user:?} beside {other:?}"));
            }
        }
        let (last, owner, over) = self.writer;
        if epoch < last || (writes && epoch == last && (over || owner != slot)) {
            return Err(format!("epoch {epoch} after {last}"));
        }
        if writes {
            self.writer = (epoch, slot, false);
        }
        let content = match (self.local.get(&slot), self.memory) {
            (Some(local), _) => *local,
            (None, Some(memory)) => memory,
            (None, None) => return Err(format!("{user:?} sees what a dead writer left")),
        };
        if content.0 != version {
            let published = content.0;
            return Err(format!("{user:?} got version {version}, not {published}"));
        }
        if let Some(cached) = self.caches.get(&slot)
            && cached.0 == version
            && cached.1 != content.1
        {
            return Err(format!("{user:?} sees stale lines of version {version}"));
        }
        self.caches.insert(slot, content);
        self.users.insert(user, (right, version));
        Ok(())
    }

    /// The host says that a grant ends: what it wrote is written back.
    fn told(&mut self, slot: u8, epoch: u64, outcome: Outcome) {
        let (last, owner, _) = self.writer;
        if epoch == last && owner == slot {
            self.writer.2 = true;
        }
        if let (Outcome::Wrote { version }, Some(local)) = (outcome, self.local.get(&slot).copied())
            && local.0 == version
        {
            self.local.remove(&slot);
            self.memory = Some(local);
            self.published.insert(version, local.1);
            self.caches.insert(slot, local);
        }
    }
}
