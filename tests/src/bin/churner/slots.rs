//! The slot that this client writes, and those of others that it reads: persistent segments, which
//! outlive whoever is killed.

use client_sdk::{
    Access, AccessError, Bytes, Create, Error, Force, Ordering, Pool, Reason, Segment,
};
use pool_core::clock;
use tierpool_tests::EXTENT;
use tierpool_tests::churn::{CHURNERS, slot_name, tenant_name, tenant_of};
use tierpool_tests::random::Random;
use tierpool_tests::slot::{self, HALF_WORDS, Words};

use crate::{TIERS, unless};

pub(crate) struct Slots {
    number: u64,
    own: Option<Segment>,
    /// What the own slot was written last, by this client or one before it.
    written: u64,
    /// A slot of another client, and the last that was read there.
    other: Option<(Segment, u64)>,
}

/// A segment as the words of a slot.
struct Memory<'s>(&'s Segment);

impl Words for Memory<'_> {
    type Error = AccessError;

    fn load(&self, index: usize) -> Result<u64, AccessError> {
        self.0.view(at(index), 1)?.get(0)
    }

    fn store(&self, index: usize, value: u64) -> Result<(), AccessError> {
        self.0
            .atomic_u64(at(index))?
            .store(value, Ordering::Release)
    }
}

fn at(index: usize) -> Bytes {
    Bytes::new(index as u64 * 8)
}

const _: () = assert!(3 * HALF_WORDS as u64 * 8 <= EXTENT);

/// Reads a slot, which must be whole and no older than what was `seen` of it.
fn read(segment: &Segment, seen: u64) -> Result<u64, AccessError> {
    match slot::read(&Memory(segment))? {
        Ok(seed) => {
            assert!(seed >= seen, "{segment:?} holds {seed} and held {seen}");
            Ok(seed)
        }
        Err(torn) => panic!("{segment:?} is torn: {torn}"),
    }
}

impl Slots {
    pub(crate) fn new(pool: &Pool, number: u64) -> Self {
        let mut slots = Self {
            number,
            own: None,
            written: 0,
            other: None,
        };
        slots.open_own(pool);
        slots
    }

    /// Opens the own slot, or makes it.
    pub(crate) fn open_own(&mut self, pool: &Pool) {
        if self.own.is_some() {
            return;
        }
        let name = slot_name(self.number);
        let open = pool.open(&name, Access::ReadWrite);
        self.own = unless(open, &[Reason::NotFound]).or_else(|| {
            let create = Create::new(TIERS[0], Bytes::new(EXTENT))
                .name(&name)
                .persistent();
            // The name may still be that of what a killed churner was about to make, and the
            // others of the tenant may have all that it may have.
            let reasons = [Reason::NameTaken, Reason::TierFull, Reason::OverQuota];
            unless(pool.create(&create), &reasons)
        });
        // A slot that was freed and made anew begins with nothing.
        self.written = self.own.as_ref().map_or(0, |own| read(own, 0).unwrap());
    }

    pub(crate) fn write(&mut self) {
        if let Some(own) = &self.own {
            let seed = clock::now().get();
            assert!(seed > self.written);
            slot::write(&Memory(own), seed).unwrap();
            self.written = seed;
        }
    }

    /// Lends the own slot to another tenant, or takes it back from there.
    pub(crate) fn share_or_revoke(&mut self, random: &mut Random) {
        let tenant = tenant_name(tenant_of(self.number + 1));
        let Some(own) = &mut self.own else {
            return;
        };
        if random.once_in(2) {
            own.share(&tenant, Access::ReadOnly).unwrap();
        } else {
            // It moves, for which there must be room, and is shared.
            let reasons = [
                Reason::NotFound,
                Reason::TierFull,
                Reason::OverQuota,
                Reason::InUse,
            ];
            unless(own.revoke(&tenant), &reasons);
        }
    }

    /// Moves the own slot to another tier, or frees it.
    pub(crate) fn move_or_free(&mut self, random: &mut Random) {
        if random.once_in(4) {
            if let Some(own) = self.own.take() {
                // Somebody may be reading it.
                unless(own.free(Force::No), &[Reason::InUse]);
            }
        } else if let Some(own) = &mut self.own {
            // The churner before may not be known to be dead, and may write for all that is known.
            let reasons = [Reason::TierFull, Reason::OverQuota, Reason::InUse];
            unless(own.relocate(random.one_of(&TIERS)), &reasons);
        }
    }

    /// Opens the slot of another client in place of the one before.
    pub(crate) fn look_at_another(&mut self, pool: &Pool, random: &mut Random) {
        self.other = None;
        let number = random.below(CHURNERS);
        if number == self.number {
            return;
        }
        let name = format!("{}:{}", tenant_name(tenant_of(number)), slot_name(number));
        let opened = match pool.open(&name, Access::ReadOnly) {
            // It was revoked, or freed, before it could be mapped.
            Err(Error::Access(AccessError::Revoked { .. })) => None,
            opened => unless(opened, &[Reason::NotFound, Reason::Revoked]),
        };
        self.other = opened.map(|segment| (segment, 0));
    }

    pub(crate) fn verify(&mut self) {
        if let Some(own) = &self.own {
            assert_eq!(read(own, self.written), Ok(self.written));
        }
        let Some((segment, seen)) = &mut self.other else {
            return;
        };
        match read(segment, *seen) {
            Ok(seed) => *seen = seed,
            Err(AccessError::Revoked { .. }) => self.other = None,
            Err(error) => panic!("{segment:?}: {error}"),
        }
    }
}
