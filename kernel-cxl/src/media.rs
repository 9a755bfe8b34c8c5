//! What devices report of their media: lines whose content was lost.
//!
//! The kernel tells it as trace events, each a line of text: `cxl_general_media` and `cxl_dram` for
//! what a device reports by itself, `cxl_poison` for each entry of a device's list of poison, once
//! that list is [asked for](Sysfs::list_poison). A [`MediaLog`] is an instance of the kernel's
//! trace with just these, so that nobody else's reading takes any of it away.
//!
//! The names of events and of their fields are those of `drivers/cxl/core/trace.h`, Linux 6.12.

use core::ops::Range;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use crate::change_error::ChangeError;
use crate::sysfs::{Folder, Sysfs, SysfsError, parse};

/// An entry of a list, or a line that was poisoned or mended on purpose.
const POISON: &str = "cxl_poison";
/// Events that are listened to.
const EVENTS: [&str; 3] = ["cxl_general_media", "cxl_dram", POISON];
/// `O_NONBLOCK` of `asm-generic/fcntl.h`: reading the pipe waits for nothing.
const NONBLOCK: i32 = 0o4000;
/// What is read at once: the kernel gives no more than a page.
const PAGE: usize = 4_096;
/// Reads of one [`MediaLog::read`], so that it ends whatever is written meanwhile.
const READS_MAX: usize = 256;
/// What the flags of an entry say of a list of which more is to come.
const MORE: &str = "More";
/// And of one that had no room for all lines.
const OVERFLOW: &str = "Overflow";
/// What one line holds.
const LINE_BYTES: u64 = 64;
/// What the descriptor of an event says of a line whose content is lost.
const LOST: &str = "UNCORRECTABLE_EVENT";
/// A host's address that the kernel could not tell.
const NOWHERE: u64 = u64::MAX;

/// Lines of a device whose content was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostLines {
    /// The device's serial number.
    pub serial: u64,
    /// Where they lie in the device.
    pub dpa: Range<u64>,
    /// Where the first of them lies for the host, where a region has it.
    pub hpa: Option<u64>,
    /// That region.
    pub region: Option<String>,
}

impl LostLines {
    /// Lines of a device, as the kernel would tell of them; of no region where that is empty.
    #[must_use]
    pub fn new(serial: u64, dpa: Range<u64>, hpa: Option<u64>, region: &str) -> Self {
        Self {
            serial,
            dpa,
            hpa,
            region: Some(region.to_owned()).filter(|it| !it.is_empty()),
        }
    }
}

/// A line of the trace that says what it says on no kernel we know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OddLine {
    /// Of which device, where that can be read.
    pub serial: Option<u64>,
    /// The event and what it says, without the time: the same each time that it is told.
    pub text: String,
}

impl OddLine {
    /// One of this device.
    #[must_use]
    pub const fn new(serial: Option<u64>, text: String) -> Self {
        Self { serial, text }
    }
}

/// What an entry of a list of poison says of the list that it is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListFlags {
    /// More entries follow. The kernel reads no more of them than the device says it can have:
    /// where the last entry says so, the list was not told to its end.
    pub has_more: bool,
    /// The device knows of more lines than its list has room for.
    pub has_overflowed: bool,
}

impl ListFlags {
    /// As the kernel would tell of a list.
    #[must_use]
    pub const fn new(has_more: bool, has_overflowed: bool) -> Self {
        Self {
            has_more,
            has_overflowed,
        }
    }
}

/// What was read since the last time.
#[derive(Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaNews {
    /// What was lost, in the order it was told.
    pub lost: Vec<LostLines>,
    /// Events were thrown away before they were read: the lists of poison say what they were.
    pub missed: bool,
    /// There may be more to be read at once.
    pub more: bool,
    /// What the last entry of each list says of it. The kernel asks for the list of a device and
    /// of each region on it by itself.
    pub lists: BTreeMap<(u64, Option<String>), ListFlags>,
    /// What cannot be read: what it told of is not known.
    pub odd: Vec<OddLine>,
}

/// See the module.
#[derive(Debug)]
pub struct MediaLog {
    instance: PathBuf,
    /// Closed before the instance is removed, which has no reader then.
    pipe: Option<File>,
    /// The begin of a line whose end was not read yet.
    rest: String,
}

impl MediaLog {
    /// Listens from now on, by an instance of this name; one that a dead process left is replaced.
    ///
    /// # Errors
    /// Where the kernel's trace cannot be had: mount `tracefs` at `/sys/kernel/tracing`, and be
    /// root.
    pub fn open(sysfs: &Sysfs, name: &str) -> Result<Self, ChangeError> {
        let instance = sysfs.path("sys/kernel/tracing/instances").join(name);
        let failed = |source| SysfsError::Read {
            path: instance.clone(),
            source,
        };
        match fs::remove_dir(&instance) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(error).into());
            }
            _ => {}
        }
        fs::create_dir(&instance).map_err(failed)?;
        let folder = Folder {
            path: instance.clone(),
        };
        match listen(&folder) {
            Ok(pipe) => Ok(Self {
                instance,
                pipe: Some(pipe),
                rest: String::new(),
            }),
            Err(why) => {
                let _is_left_without_events = fs::remove_dir(&instance);
                Err(why)
            }
        }
    }

    /// What was told since.
    ///
    /// # Errors
    /// Where the trace cannot be read.
    pub fn read(&mut self) -> Result<MediaNews, ChangeError> {
        let mut news = MediaNews {
            more: true,
            ..MediaNews::default()
        };
        let mut page = [0; PAGE];
        for _ in 0..READS_MAX {
            let read = self
                .pipe
                .as_mut()
                .map_or(Ok(0), |pipe| pipe.read(&mut page));
            let count = match read {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(source) => {
                    let path = self.instance.join("trace_pipe");
                    return Err(SysfsError::Read { path, source }.into());
                }
            };
            if count == 0 {
                news.more = false;
                break;
            }
            self.rest += &String::from_utf8_lossy(&page[..count]);
            while let Some(end) = self.rest.find('\n') {
                let line: String = self.rest.drain(..=end).collect();
                note(line.trim_end(), &mut news);
            }
        }
        Ok(news)
    }
}

impl Drop for MediaLog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // One that stays is replaced by the next one of its name.
        let _stays = fs::remove_dir(&self.instance);
    }
}

fn listen(instance: &Folder) -> Result<File, ChangeError> {
    for event in EVENTS {
        instance.write(&format!("events/cxl/{event}/enable"), "1")?;
    }
    let path = instance.path.join("trace_pipe");
    let pipe = fs::OpenOptions::new()
        .read(true)
        .custom_flags(NONBLOCK)
        .open(&path);
    pipe.map_err(|source| SysfsError::Read { path, source }.into())
}

impl Sysfs {
    /// Asks a device for its list of poison, of which the kernel has told each entry as an event
    /// by then. Tells whether it keeps one: the driver shows no file of one that does not, nor for
    /// a moment of one that it has just taken.
    ///
    /// # Errors
    /// [`ChangeError::NoMemdev`] where there is no such device; what the kernel refuses.
    pub fn list_poison(&self, serial: u64) -> Result<bool, ChangeError> {
        const FILE: &str = "trigger_poison_list";
        for (name, folder) in self.devices("cxl")? {
            if name.starts_with("mem") && folder.number("serial")? == Some(serial) {
                let path = folder.path.join(FILE);
                match path.try_exists() {
                    Ok(true) => {}
                    Ok(false) => return Ok(false),
                    // That it cannot be seen does not say that there is none.
                    Err(source) => return Err(SysfsError::Read { path, source }.into()),
                }
                return folder.write(FILE, "1").map(|()| true);
            }
        }
        Err(ChangeError::NoMemdev(serial))
    }
}

/// Takes up one line of a trace.
fn note(line: &str, news: &mut MediaNews) {
    if line.contains("LOST") && line.starts_with("CPU:") {
        news.missed = true;
        return;
    }
    let event = EVENTS
        .into_iter()
        .find_map(|event| Some((event, line.split_once(&format!(" {event}: "))?.1)));
    let Some((event, fields)) = event else {
        return;
    };
    let fields = Fields(fields);
    let read = match event {
        POISON => fields.poison(news),
        _ => fields.report(news),
    };
    if read.is_none() {
        let text = format!("{event}: {}", fields.0);
        news.odd.push(OddLine::new(fields.serial(), text));
    }
}

/// `name=value` for each field; a value with blanks is in quotes.
struct Fields<'l>(&'l str);

impl<'l> Fields<'l> {
    fn text(&self, name: &str) -> Option<&'l str> {
        let key = format!("{name}=");
        let mut rest = self.0;
        loop {
            let at = rest.find(&key)?;
            let begins = at == 0 || rest[..at].ends_with(' ');
            let value = &rest[at + key.len()..];
            if begins {
                let quoted = value.strip_prefix('\'');
                return Some(match quoted {
                    Some(quoted) => quoted.split('\'').next().unwrap_or(""),
                    None => value.split(' ').next().unwrap_or(""),
                });
            }
            rest = value;
        }
    }

    /// A number in hexadecimal, marked as such or not.
    fn hex(&self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        parse(&format!("0x{}", text.trim_start_matches("0x")))
    }

    fn serial(&self) -> Option<u64> {
        // The kernel prints it with a sign.
        let serial: i64 = self.text("serial")?.parse().ok()?;
        Some(serial.cast_unsigned())
    }

    /// Takes up what is said of poison; nothing where it cannot be read.
    fn poison(&self, news: &mut MediaNews) -> Option<()> {
        match self.text("trace_type")? {
            "List" => {}
            // Poison that is put there or taken away on purpose is in the list, or is not.
            "Inject" | "Clear" => return Some(()),
            _ => return None,
        }
        let lost = self.lost(self.hex("dpa_length")?)?;
        let flags = self.text("flags")?;
        let has = |flag| flags.split('|').any(|it| it == flag);
        let flags = ListFlags::new(has(MORE), has(OVERFLOW));
        let list = (lost.serial, lost.region.clone());
        news.lists.insert(list, flags);
        news.lost.push(lost);
        Some(())
    }

    /// Takes up what a device reports by itself; nothing where it cannot be read.
    fn report(&self, news: &mut MediaNews) -> Option<()> {
        let mut words = self.text("descriptor")?.split('|');
        if words.any(|word| word == LOST) {
            // Such an event is of one line, and says no length.
            news.lost.push(self.lost(LINE_BYTES)?);
        }
        Some(())
    }

    fn lost(&self, bytes: u64) -> Option<LostLines> {
        let first = self.hex("dpa")?;
        let dpa = first..first.checked_add(bytes)?;
        let hpa = self.hex("hpa").filter(|hpa| *hpa != NOWHERE);
        let region = self.text("region").unwrap_or("");
        Some(LostLines::new(self.serial()?, dpa, hpa, region))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "     init-77      [001] .....    12.345678: cxl_poison: memdev=mem1 \
        host=0000:0d:00.0 serial=160 trace_type=List region=region0 region_uuid=00000000-0000-\
        0000-0000-000000000000 hpa=0x290200000 dpa=0x200000 dpa_length=0x80 source=Injected \
        flags= overflow_time=0";
    const MEDIA: &str = "  irq/29-aerdrv-88  [000] .....    13.5: cxl_general_media: memdev=mem1 \
        host=0000:0d:00.0 serial=-1 log=Failure : time=5 uuid=fbcd0a77 len=128 flags='' handle=1 \
        related_handle=0 maint_op_class=0 : dpa=400040 dpa_flags='VOLATILE' \
        descriptor='UNCORRECTABLE_EVENT|THRESHOLD_EVENT' type='ECC Error' sub_type='Not Reported' \
        transaction_type='Host Read' channel=0 rank=0 device=0 validity_flags='' comp_id=00 \
        hpa=ffffffffffffffff region= region_uuid=0 cme_threshold_ev_flags='' cme_count=0";

    fn of(lines: &[&str]) -> MediaNews {
        let mut news = MediaNews::default();
        for line in lines {
            note(line, &mut news);
        }
        news
    }

    #[test]
    fn lines_that_were_lost_are_read_of_both_sorts_of_events() {
        let news = of(&[ENTRY, MEDIA]);
        assert!(!news.missed);
        let poison = LostLines {
            serial: 160,
            dpa: 0x20_0000..0x20_0080,
            hpa: Some(0x2_9020_0000),
            region: Some("region0".to_owned()),
        };
        let media = LostLines {
            serial: u64::MAX,
            dpa: 0x40_0040..0x40_0080,
            hpa: None,
            region: None,
        };
        assert_eq!(news.lost, [poison, media]);
    }

    #[test]
    fn what_was_corrected_or_is_of_somebody_else_is_no_loss() {
        let corrected = MEDIA.replace("UNCORRECTABLE_EVENT|", "");
        let cleared = ENTRY.replace("=List", "=Clear");
        let other = "  init-1  [000] .....  1.0: sched_switch: dpa=1 serial=2";
        let news = of(&[&corrected, &cleared, other, ""]);
        assert_eq!(news, MediaNews::default());
    }

    #[test]
    fn events_that_were_thrown_away_are_told() {
        let news = of(&["CPU:1 [LOST 12 EVENTS]", ENTRY]);
        assert!(news.missed && news.lost.len() == 1);
    }

    #[test]
    fn an_event_without_its_fields_is_told_and_keeps_nobody_from_the_next() {
        let of_poison = ["serial", "dpa", "dpa_length", "trace_type", "flags"];
        let of_media = ["serial", "dpa", "descriptor"];
        let of_poison = of_poison.map(|field| (ENTRY, MEDIA, field));
        let of_media = of_media.map(|field| (MEDIA, ENTRY, field));
        for (line, next, field) in of_poison.into_iter().chain(of_media) {
            let line = line.replace(&format!(" {field}="), " none=");
            let news = of(&[&line, next]);
            let [odd] = &news.odd[..] else {
                panic!("without {field}: {news:?}");
            };
            assert!(odd.text.starts_with("cxl_"), "no time: {odd:?}");
            assert!(line.ends_with(&odd.text));
            assert_eq!(odd.serial.is_none(), field == "serial", "{odd:?}");
            assert_eq!(news.lost.len(), 1);
        }
        let unknown = ENTRY.replace("=List", "=0x3");
        assert_eq!(of(&[&unknown]).odd.len(), 1, "a sort that nobody knows");
    }

    #[test]
    fn the_last_entry_of_each_list_tells_whether_the_list_is_whole() {
        let more = ENTRY.replace("flags=", "flags=More");
        let both = ENTRY.replace("flags=", "flags=More|Overflow");
        let other = ENTRY.replace("region=region0", "region=");
        let flags = |lines: &[&str]| of(lines).lists.into_values().collect::<Vec<_>>();
        assert_eq!(flags(&[ENTRY]), [ListFlags::default()]);
        assert_eq!(flags(&[ENTRY, &more]), [ListFlags::new(true, false)]);
        assert_eq!(flags(&[&more, ENTRY]), [ListFlags::default()]);
        assert_eq!(flags(&[&both]), [ListFlags::new(true, true)]);
        let apart = [ListFlags::default(), ListFlags::new(true, false)];
        assert_eq!(flags(&[&more, &other]), apart, "each region is asked for");
    }

    #[test]
    fn a_list_that_cannot_be_looked_for_is_not_taken_for_none() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("sys/bus/cxl/devices/mem0");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("serial"), "0xa0\n").unwrap();
        let sysfs = Sysfs::at(root.path());
        assert!(!sysfs.list_poison(0xa0).unwrap(), "it shows none");
        let file = device.join("trigger_poison_list");
        std::os::unix::fs::symlink(&file, &file).unwrap();
        let told = sysfs.list_poison(0xa0);
        let is_unseen = matches!(
            &told,
            Err(ChangeError::Sysfs(SysfsError::Read { path, .. })) if *path == file
        );
        assert!(is_unseen, "{told:?}");
    }
}
