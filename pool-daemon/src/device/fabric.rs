//! Memory that an emulated fabric has added to this host, in files that the emulator hands out.
//!
//! The emulator stands for the kernel's driver, which makes a dax device of memory that a host has.
//! A file is *carved* of the very extents that the engine has chosen. The emulator keeps no
//! description of it that counts in [`super::proof`], so the proof holds as for any other file.
//! When memory leaves the host, the emulator forgets the file: what a stale holder writes from then
//! on lands in pages that are nobody else's.
//!
//! Numbers of carvings end with the daemon. A file is known by its inode instead, which the journal
//! has too: so a daemon that starts finds which carvings nobody needs any more. One whose answer
//! was missed, or whose file all have lost, is found when its extents are carved anew: nobody has
//! its file, which the proof shows, and it is given back.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use fabric_emu::cci::dcd::GetDcConfigRequest;
use fabric_emu::cci::{Request, Response};
use fabric_emu::fabric::Cci;
use fabric_emu::id::{HostId, LdId, MemdevId};
use fabric_emu::serve::names::Door;
use fabric_emu::serve::wire::Outcome;
use fabric_emu::serve::{Carver, CarverError, Cut, Remote};
use nix::errno::Errno;
use pool_core::sync::{Mutex, lock};
use pool_core::{BackingId, Bytes, Nanos};
use pool_proto::common::v1::Pages;

use super::proof::is_held_elsewhere;
use super::{Device, NewFile, Place};
use crate::config::FabricSource;
use crate::engine::command::{FileIdentity, WorldError};
use crate::steward::Region;
use crate::sys;

/// What is said to the emulator of this host's memory.
#[derive(Debug, Default)]
struct Speaker {
    carver: Option<Carver>,
    /// Where the extents lie, once it was told.
    region: Option<Region>,
    /// The carving of each file.
    carvings: BTreeMap<FileIdentity, u64>,
}

/// See the module.
#[derive(Debug)]
pub struct FabricDevice {
    source: FabricSource,
    speaker: Mutex<Speaker>,
}

impl FabricDevice {
    /// A device that carves what this host has. Nobody is spoken to before something is built: the
    /// fabric may come later.
    #[must_use]
    pub fn new(source: FabricSource) -> Self {
        Self {
            source,
            speaker: Mutex::new(Speaker::default()),
        }
    }

    fn carve(&self, place: Place<'_>) -> Result<(Cut, FileIdentity), WorldError> {
        let (memdev, ld) = (MemdevId(self.source.memdev), LdId(self.source.ld));
        let mut speaker = lock(&self.speaker);
        let region = match speaker.region {
            Some(region) => region,
            None => *speaker.region.insert(self.region()?),
        };
        let spans = region.spans(place.runs);
        let bytes = place.bytes.get();
        let mut cut = self.speak(&mut speaker, bytes, |it| it.carve(memdev, ld, &spans));
        if matches!(&cut, Err(error) if *error == CARVED) {
            self.sweep(&mut speaker)?;
            cut = self.speak(&mut speaker, bytes, |it| it.carve(memdev, ld, &spans));
        }
        match cut {
            Ok(cut) => {
                let identity = sys::status(cut.file.as_fd())?.identity;
                speaker.carvings.insert(identity, cut.carving);
                Ok((cut, identity))
            }
            Err(error) => {
                // Another fabric, perhaps, that lies elsewhere.
                speaker.region = None;
                Err(error)
            }
        }
    }

    /// Gives back what is carved and nobody has, neither this daemon nor whoever it gave it to.
    fn sweep(&self, speaker: &mut Speaker) -> Result<(), WorldError> {
        for carved in self.list(speaker)? {
            let cut = match self.speak(speaker, 0, |it| it.open(carved)) {
                Err(WorldError::Withdrawn) => continue,
                cut => cut?,
            };
            if is_held_elsewhere(cut.file.as_fd())? {
                continue;
            }
            tracing::warn!(carving = carved, "a carving that nobody has is given back");
            match self.speak(speaker, 0, |it| it.give_back(carved)) {
                Ok(()) | Err(WorldError::Withdrawn) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks the device how the region lies.
    fn region(&self) -> Result<Region, WorldError> {
        let door = Door::Cci(mailbox(&self.source));
        let mut remote =
            Remote::connect(&self.source.directory.join(door.to_string())).map_err(|_| NOBODY)?;
        remote = remote.with_patience(PATIENCE);
        let request = Request::GetDcConfig(GetDcConfigRequest {
            region_count: 8,
            starting_region_index: 0,
        });
        match remote.ask(&request) {
            Ok(Response::GetDcConfig(found)) => Region::of(&found, self.source.region),
            _ => None,
        }
        .ok_or_else(|| unreached("get-dc-config"))
    }

    /// Says something to the emulator, which is connected to where it is not: about a file of so
    /// many bytes that is to be made, if any is.
    fn speak<T>(
        &self,
        speaker: &mut Speaker,
        bytes: u64,
        say: impl FnOnce(&mut Carver) -> Result<T, CarverError>,
    ) -> Result<T, WorldError> {
        let mut carver = match speaker.carver.take() {
            Some(carver) => carver,
            None => {
                let door = Door::Memory(HostId(self.source.host));
                let path = self.source.directory.join(door.to_string());
                Carver::connect(&path).map_err(|_| NOBODY)?
            }
        };
        let filling = Nanos::new(bytes.saturating_mul(FILL_NS));
        carver = carver.with_patience(PATIENCE.saturating_add(filling));
        let said = say(&mut carver);
        let is_in_step = matches!(
            said,
            Ok(_)
                | Err(CarverError::Refused(_)
                    | CarverError::MachineShort { .. }
                    | CarverError::TooMany(_))
        );
        if is_in_step {
            speaker.carver = Some(carver);
        }
        said.map_err(failed)
    }

    /// The numbers of the carvings of this device.
    fn list(&self, speaker: &mut Speaker) -> Result<Vec<u64>, WorldError> {
        let (memdev, ld) = (MemdevId(self.source.memdev), LdId(self.source.ld));
        let all = self.speak(speaker, 0, Carver::list)?;
        let ours = all.iter().filter(|it| (it.memdev, it.ld) == (memdev, ld));
        Ok(ours.map(|it| it.carving).collect())
    }

    /// The carvings of this device, by the files that they are.
    fn listed(&self, speaker: &mut Speaker) -> Result<BTreeMap<FileIdentity, u64>, WorldError> {
        let mut ours = BTreeMap::new();
        for carved in self.list(speaker)? {
            match self.speak(speaker, 0, |carver| carver.open(carved)) {
                Ok(cut) => {
                    ours.insert(sys::status(cut.file.as_fd())?.identity, cut.carving);
                }
                // It left meanwhile.
                Err(WorldError::Withdrawn) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ours)
    }
}

impl Device for FabricDevice {
    fn asks_others(&self) -> bool {
        true
    }

    fn build(
        &self,
        _backing: BackingId,
        place: Place<'_>,
        _shareable: bool,
    ) -> Result<NewFile, WorldError> {
        let (cut, identity) = self.carve(place)?;
        if cut.bytes != place.bytes.get() {
            return Err(unreached("carve"));
        }
        Ok(NewFile {
            file: cut.file,
            pages: Pages::Base,
            identity,
        })
    }

    fn build_ahead(&self, _bytes: Bytes, _shareable: bool) -> Option<Result<NewFile, WorldError>> {
        // Nobody knows of which extents.
        None
    }

    fn find(&self, _backing: BackingId) -> Result<Option<OwnedFd>, WorldError> {
        Ok(None)
    }

    fn remove_leftovers(
        &self,
        _known: &BTreeSet<BackingId>,
        files: &BTreeSet<FileIdentity>,
    ) -> Result<usize, WorldError> {
        let mut speaker = lock(&self.speaker);
        let (kept, left): (BTreeMap<_, _>, BTreeMap<_, _>) = match self.listed(&mut speaker) {
            Ok(listed) => listed
                .into_iter()
                .partition(|(file, _)| files.contains(file)),
            // Where the fabric is not there yet, or does not answer, nothing of it is removed, and
            // nothing is granted either: what is left over is in nobody's way.
            Err(error) => {
                tracing::warn!(%error, "the fabric cannot be asked for what is left over");
                return Ok(0);
            }
        };
        speaker.carvings = kept;
        let count = left.len();
        for carving in left.into_values() {
            match self.speak(&mut speaker, 0, |carver| carver.give_back(carving)) {
                Ok(()) | Err(WorldError::Withdrawn) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Empties the file before anybody closes it, and has the emulator forget it.
    fn destroy(&self, _backing: BackingId, file: BorrowedFd<'_>) -> Result<(), WorldError> {
        let status = sys::status(file)?;
        sys::punch(file, 0, status.bytes)?;
        let mut speaker = lock(&self.speaker);
        if !speaker.carvings.contains_key(&status.identity) {
            // Of a life of the daemon in which the fabric did not answer at the start.
            match self.listed(&mut speaker) {
                Ok(listed) => speaker.carvings = listed,
                Err(error) => tracing::warn!(%error, "the fabric cannot be asked for its files"),
            }
        }
        let Some(&carving) = speaker.carvings.get(&status.identity) else {
            return Ok(()); // It has left the host.
        };
        match self.speak(&mut speaker, 0, |carver| carver.give_back(carving)) {
            // Where it has left already, it is forgotten already; and an emulator that is gone has
            // taken its carvings along.
            Ok(()) | Err(WorldError::Withdrawn | NOBODY) => {}
            Err(error) => return Err(error),
        }
        speaker.carvings.remove(&status.identity);
        Ok(())
    }
}

/// The mailbox of a device that this host reaches.
pub(crate) const fn mailbox(source: &FabricSource) -> Cci {
    Cci::Mailbox {
        host: HostId(source.host),
        memdev: MemdevId(source.memdev),
        ld: LdId(source.ld),
    }
}

fn failed(error: CarverError) -> WorldError {
    match error {
        CarverError::MachineShort { available_bytes } => WorldError::MachineShort {
            available_bytes,
            asked_bytes: 0,
        },
        CarverError::Refused(
            Outcome::NotHad | Outcome::Left | Outcome::NoCarving | Outcome::Unreachable,
        ) => WorldError::Withdrawn,
        CarverError::Refused(Outcome::TooMany) | CarverError::TooMany(_) => WorldError::Os {
            call: "carve",
            errno: Errno::EMFILE as i32,
        },
        CarverError::Refused(Outcome::Carved) => CARVED,
        CarverError::Refused(_) => WorldError::Os {
            call: "carve",
            errno: Errno::EINVAL as i32,
        },
        CarverError::Os(errno) => WorldError::Os {
            call: "carve",
            errno: errno as i32,
        },
        CarverError::Closed | CarverError::TimedOut | CarverError::Malformed => unreached("carve"),
    }
}

/// How long an answer is waited for, but for the time that a file takes to be filled.
const PATIENCE: Nanos = Nanos::from_millis(5_000);
/// The longest that a byte takes to be filled.
const FILL_NS: u64 = 4;

/// Some of it is carved already.
const CARVED: WorldError = WorldError::Os {
    call: "carve",
    errno: Errno::EEXIST as i32,
};

/// Nobody serves a fabric there.
const NOBODY: WorldError = unreached("connect");

/// The fabric does not answer, or not as it should.
const fn unreached(call: &'static str) -> WorldError {
    WorldError::Os {
        call,
        errno: Errno::ENODEV as i32,
    }
}

#[cfg(test)]
mod tests {
    use fabric_emu::cci::dcd::{UpdatedExtent, UpdatedExtentList};
    use fabric_emu::cci::dcd_management::{InitiateAddRequest, SelectionPolicy};
    use fabric_emu::cci::{Request, Tag};
    use fabric_emu::serve::{Config, Mode, Server, Stop};
    use fabric_emu::topology::Topology;
    use pool_core::{EXTENT_BYTES, Extents};

    use super::*;
    use crate::engine::Run;

    const TOPOLOGY: &str = "name = \"one\"\n\
        [[host]]\nname = \"h0\"\nwindow = \"1 GiB\"\n\
        [[memdev]]\nname = \"pool\"\nkind = \"sld\"\ndynamic = \"256 MiB\"\n\
        [[memdev.region]]\nlength = \"256 MiB\"\nblock = \"2 MiB\"\n\
        [[link]]\nup = \"h0:0\"\ndown = \"pool:0\"\n";

    fn take_all(directory: &std::path::Path) {
        let ask = |door: &str, request: &Request| {
            let mut remote = Remote::connect(&directory.join(door)).unwrap();
            remote.ask(request).unwrap()
        };
        let length = 8 * EXTENT_BYTES;
        let offer = Request::InitiateAdd(InitiateAddRequest {
            host_id: LdId(0),
            selection_policy: SelectionPolicy::Free,
            region_number: 0,
            length,
            tag: Tag::default(),
            extents: None,
        });
        ask("memdev0.cci", &offer);
        let door = Door::Cci(mailbox(&source(directory))).to_string();
        let regions = Request::GetDcConfig(GetDcConfigRequest {
            region_count: 8,
            starting_region_index: 0,
        });
        let Response::GetDcConfig(found) = ask(&door, &regions) else {
            panic!("it tells");
        };
        let start_dpa = found.regions[0].region_base;
        let taken = vec![UpdatedExtent { start_dpa, length }];
        let extents = taken.try_into().unwrap();
        let answer = Request::AddDcResponse(UpdatedExtentList { flags: 0, extents });
        ask(&door, &answer);
    }

    fn source(directory: &std::path::Path) -> FabricSource {
        let some = Extents::new(8).bytes();
        FabricSource {
            directory: directory.to_owned(),
            host: 0,
            memdev: 0,
            ld: 0,
            region: 0,
            step: some,
            low: some,
            high: some,
            idle: Nanos::from_millis(1),
            patience: Nanos::from_millis(1),
        }
    }

    #[test]
    fn extents_whose_carving_nobody_has_any_more_are_carved_again_and_what_is_held_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("fabric");
        let topology = Topology::parse("one", TOPOLOGY).unwrap();
        let config = Config::new(Mode::Virtual, 1);
        let mut server = Server::open(&topology, &directory, config).unwrap();
        let (stop, stopper) = Stop::by_hand().unwrap();
        let thread = std::thread::spawn(move || server.run(&stop));
        take_all(&directory);
        let device = FabricDevice::new(source(&directory));
        let build = |first| {
            let runs = [Run { first, count: 2 }];
            let place = Place {
                bytes: Extents::new(2).bytes(),
                runs: &runs,
            };
            device.build(BackingId::FIRST, place, false)
        };
        let lost = build(0).unwrap();
        let kept = build(4).unwrap();
        drop(lost);
        let again = build(0).unwrap();
        assert_eq!(build(4).unwrap_err(), CARVED, "somebody has it");
        device.destroy(BackingId::FIRST, kept.file.as_fd()).unwrap();
        drop((again, kept));
        stopper.stop();
        thread.join().unwrap().unwrap();
    }
}
