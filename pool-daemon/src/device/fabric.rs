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
use std::os::fd::{AsFd as _, BorrowedFd};

use fabric_emu::cci::dcd::GetDcConfigRequest;
use fabric_emu::cci::{Request, Response};
use fabric_emu::fabric::Cci;
use fabric_emu::id::{HostId, LdId, MemdevId};
use fabric_emu::serve::names::Door;
use fabric_emu::serve::wire::Outcome;
use fabric_emu::serve::{Carver, CarverError, ConnectError, Cut, Remote};
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
    patience: Nanos,
    speaker: Mutex<Speaker>,
}

impl FabricDevice {
    /// A device that carves what this host has. Nobody is spoken to before something is built: the
    /// fabric may come later.
    #[must_use]
    pub fn new(source: FabricSource) -> Self {
        Self {
            source,
            patience: PATIENCE,
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
            Ok(cut) => self.keep(&mut speaker, cut, place.bytes),
            Err(error) => {
                // Another fabric, perhaps, that lies elsewhere.
                speaker.region = None;
                Err(error)
            }
        }
    }

    /// Remembers which carving a file is. One that is not as it was asked for is given back.
    fn keep(
        &self,
        speaker: &mut Speaker,
        cut: Cut,
        asked: Bytes,
    ) -> Result<(Cut, FileIdentity), WorldError> {
        let wrong = match sys::status(cut.file.as_fd()) {
            Ok(status) if cut.bytes == asked.get() => {
                speaker.carvings.insert(status.identity, cut.carving);
                return Ok((cut, status.identity));
            }
            Ok(_) => unreached("carve"),
            Err(failed) => failed.into(),
        };
        let carving = cut.carving;
        drop(cut);
        match self.speak(speaker, 0, |carver| carver.give_back(carving)) {
            Ok(()) | Err(WorldError::Withdrawn | NOBODY) => Err(wrong),
            // It is found when its extents are carved anew: see the module.
            Err(error) => Err(error),
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
        let path = self.source.directory.join(door.to_string());
        let remote = Remote::connect_within(&path, self.patience);
        let mut remote = remote.map_err(|error| unconnected(&error))?;
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
                // Another emulator, perhaps, whose numbers are others.
                speaker.carvings.clear();
                let carver = Carver::connect_within(&path, self.patience);
                carver.map_err(|error| unconnected(&error))?
            }
        };
        let filling = Nanos::new(bytes.saturating_mul(FILL_NS));
        carver = carver.with_patience(self.patience.saturating_add(filling));
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
        Ok(NewFile {
            file: cut.file,
            pages: Pages::Base,
            identity,
        })
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

    /// Empties the file before anybody closes it, and has the emulator forget it. That of a group
    /// has other hosts, and is not emptied: the emulator ends it with the group.
    fn destroy(&self, _backing: BackingId, file: BorrowedFd<'_>) -> Result<(), WorldError> {
        let status = sys::status(file)?;
        if !self.source.shared {
            sys::punch(file, 0, status.bytes)?;
        }
        let mut speaker = lock(&self.speaker);
        if speaker.carver.is_none() {
            speaker.carvings.clear(); // As at each connection: the numbers may be others.
        }
        if !speaker.carvings.contains_key(&status.identity) {
            // Of a life of the daemon in which the fabric did not answer at the start.
            match self.listed(&mut speaker) {
                Ok(listed) => speaker.carvings = listed,
                // It has left the host, or all that there was is gone.
                Err(WorldError::Withdrawn | NOBODY) => return Ok(()),
                // It ends with what this host has of the group, which is given back next.
                Err(_) if self.source.shared => return Ok(()),
                // Whether it is there nobody knows: it is asked again.
                Err(error) => return Err(error),
            }
        }
        let Some(&carving) = speaker.carvings.get(&status.identity) else {
            return Ok(()); // It has left the host.
        };
        match self.speak(&mut speaker, 0, |carver| carver.give_back(carving)) {
            // Where it has left already, it is forgotten already; and an emulator that is gone has
            // taken its carvings along.
            Ok(()) | Err(WorldError::Withdrawn | NOBODY) => {}
            // It ends with what this host has of the group, which is given back next.
            Err(error) if self.source.shared => {
                tracing::warn!(%error, "the file of a group cannot be given back");
            }
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
            Outcome::NotHad
            | Outcome::Left
            | Outcome::NoCarving
            | Outcome::Unreachable
            | Outcome::HostDead,
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

/// Nobody serves a fabric there, or whoever does takes nobody in at the moment.
fn unconnected(error: &ConnectError) -> WorldError {
    let errno = match error {
        ConnectError::Nobody { errno, .. } => *errno,
        ConnectError::Busy { .. } => Errno::EAGAIN,
    };
    match errno {
        Errno::ENOENT | Errno::ECONNREFUSED => NOBODY,
        errno => WorldError::Os {
            call: "connect",
            errno: errno as i32,
        },
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
    use fabric_emu::serve::{Config, Mode, Server, Stop, Stopper};
    use fabric_emu::topology::Topology;
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
    };
    use pool_core::clock::{Deadline, eventually};
    use pool_core::{EXTENT_BYTES, Extents};

    use std::os::fd::AsRawFd as _;

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
            shared: false,
            step: some,
            low: some,
            high: some,
            idle: Nanos::from_millis(1),
            patience: Nanos::from_millis(1),
        }
    }

    /// A fabric whose one host has taken 8 extents, until it is dropped.
    struct Had {
        folder: tempfile::TempDir,
        running: Option<(Stopper, std::thread::JoinHandle<()>)>,
    }

    impl Had {
        fn directory(&self) -> std::path::PathBuf {
            self.folder.path().join("fabric")
        }

        fn device(&self) -> FabricDevice {
            FabricDevice::new(source(&self.directory()))
        }
    }

    impl Drop for Had {
        fn drop(&mut self) {
            let (stopper, thread) = self.running.take().unwrap();
            stopper.stop();
            thread.join().unwrap();
        }
    }

    fn had() -> Had {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("fabric");
        let topology = Topology::parse("one", TOPOLOGY).unwrap();
        let config = Config::new(Mode::Virtual, 1);
        let mut server = Server::open(&topology, &directory, config).unwrap();
        let (stop, stopper) = Stop::by_hand().unwrap();
        let thread = std::thread::spawn(move || server.run(&stop).unwrap());
        take_all(&directory);
        let running = Some((stopper, thread));
        Had { folder, running }
    }

    /// Two extents, and a file of so many bytes as so many extents have.
    fn build(device: &FabricDevice, first: u32, extents: u32) -> Result<NewFile, WorldError> {
        let runs = [Run { first, count: 2 }];
        let place = Place {
            bytes: Extents::new(extents).bytes(),
            runs: &runs,
        };
        device.build(BackingId::FIRST, place, false)
    }

    #[test]
    fn extents_whose_carving_nobody_has_any_more_are_carved_again_and_what_is_held_is_not() {
        let fabric = had();
        let device = fabric.device();
        let lost = build(&device, 0, 2).unwrap();
        let kept = build(&device, 4, 2).unwrap();
        drop(lost);
        let again = build(&device, 0, 2).unwrap();
        assert_eq!(build(&device, 4, 2).unwrap_err(), CARVED, "somebody has it");
        device.destroy(BackingId::FIRST, kept.file.as_fd()).unwrap();
        drop((again, kept));
    }

    #[test]
    fn a_file_of_another_length_than_was_asked_for_is_given_back() {
        let fabric = had();
        let device = fabric.device();
        let wrong = build(&device, 0, 3).unwrap_err();
        assert_eq!(wrong, unreached("carve"));
        let left = device.list(&mut lock(&device.speaker)).unwrap();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_file_is_not_taken_for_gone_where_the_fabric_is_there_and_does_not_answer() {
        let fabric = had();
        let kept = build(&fabric.device(), 4, 2).unwrap();
        // What is served beside it takes everybody in, and says nothing.
        let silent = tempfile::tempdir().unwrap();
        let door = silent.path().join(Door::Memory(HostId(0)).to_string());
        let address = UnixAddr::new(&door).unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        bind(listener.as_raw_fd(), &address).unwrap();
        listen(&listener, Backlog::new(8).unwrap()).unwrap();
        let mut device = FabricDevice::new(source(silent.path()));
        device.patience = Nanos::from_millis(20);
        let destroy = |device: &FabricDevice| device.destroy(BackingId::FIRST, kept.file.as_fd());
        assert_eq!(destroy(&device), Err(unreached("carve")));
        std::fs::remove_file(&door).unwrap();
        assert_eq!(destroy(&device), Ok(()), "nobody serves it any more");
        let device = fabric.device();
        destroy(&device).unwrap();
        build(&device, 4, 2).unwrap();
    }

    #[test]
    fn who_waits_to_be_taken_in_waits_no_longer_than_for_an_answer() {
        let full = tempfile::tempdir().unwrap();
        let door = full.path().join(Door::Memory(HostId(0)).to_string());
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&door).unwrap()).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let hardly = Nanos::from_millis(1);
        let others = std::iter::from_fn(|| Carver::connect_within(&door, hardly).ok());
        let others: Vec<_> = others.collect();
        assert!(!others.is_empty(), "they wait to be taken in");
        let mut device = FabricDevice::new(source(full.path()));
        device.patience = Nanos::from_millis(20);
        let asks = move || device.list(&mut lock(&device.speaker)).is_err();
        let asked = pool_core::sync::thread::spawn(asks);
        let end = Deadline::after(Nanos::from_millis(30_000));
        let ended = eventually(end, || asked.is_finished().then_some(()));
        assert!(ended.is_ok(), "it waits for longer");
        assert!(asked.join().unwrap());
    }

    #[test]
    fn a_fabric_that_takes_nobody_in_at_the_moment_is_not_one_that_is_gone() {
        let path = std::path::PathBuf::from("x");
        let busy = unconnected(&ConnectError::Busy { path: path.clone() });
        assert_ne!(busy, NOBODY);
        let errno = Errno::EMFILE;
        assert_ne!(
            unconnected(&ConnectError::Nobody {
                path: path.clone(),
                errno
            }),
            NOBODY
        );
        let errno = Errno::ENOENT;
        assert_eq!(unconnected(&ConnectError::Nobody { path, errno }), NOBODY);
    }
}
