//! The peer: another process that passes descriptors, and does nothing else.
//!
//! It is what a grant costs at the least on this machine: one packet of the same length there and
//! one back over a socket of the same type, woken by epoll as the daemon is, with one descriptor
//! of the same kind of file, that the client maps at a fixed address in a range it had reserved,
//! with the very code the SDK maps with, and closes. It checks nobody, remembers nothing, and
//! would survive nothing.
//!
//! # Protocol
//! The first byte of a request is what is wanted, see [`Want`]; eight more are a number of bytes.
//! Each request has one answer. The peer ends when the process that started it closes its standard
//! input.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pool_core::clock::{Deadline, eventually};
use pool_core::mem::{Access, Region, Window};
use pool_core::packet::{self, Packet, PacketError};
use pool_core::units::TIB;
use pool_core::{BackingId, Bytes, Nanos, PoolAddr, WindowRange};
use pool_daemon::device::memfd::{MemfdDevice, PagePolicy};
use pool_daemon::device::{Device as _, Place};
use pool_daemon::sys::Failed;
use pool_daemon::sys::socket::{connect_to, listen_privately};
use tempfile::TempDir;

/// The length of a request to create a segment and of its answer, give or take a few bytes.
const REQUEST_BYTES: usize = 32;
const REPLY_BYTES: usize = 96;
/// A range of the client's own, clear of the pool's window.
const BASE: PoolAddr = PoolAddr::new(0x4000_0000_0000);

/// How long the peer may take to take a connection in.
const PATIENCE: Nanos = Nanos::from_millis(10_000);

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Want {
    /// An answer.
    Echo = 1,
    /// A descriptor of a file that is there already.
    Pass = 2,
    /// A descriptor of a file that is built for this request.
    Build = 3,
}

impl Want {
    fn of(request: &[u8]) -> anyhow::Result<(Self, Bytes)> {
        let (Some(want), Some(bytes)) = (request.first(), request.get(1..9)) else {
            bail!("a request of {} bytes", request.len());
        };
        let want = match want {
            1 => Self::Echo,
            2 => Self::Pass,
            3 => Self::Build,
            other => bail!("nobody knows a request {other}"),
        };
        Ok((want, Bytes::new(u64::from_le_bytes(bytes.try_into()?))))
    }

    fn request(self, bytes: Bytes) -> [u8; REQUEST_BYTES] {
        let mut request = [0; REQUEST_BYTES];
        let (head, rest) = request.split_at_mut(1);
        head.copy_from_slice(&[self as u8]);
        if let Some(number) = rest.first_chunk_mut() {
            *number = bytes.get().to_le_bytes();
        }
        request
    }
}

/// Serves until the standard input ends.
pub(crate) fn serve(socket: &Path) -> anyhow::Result<()> {
    const LISTENER: u64 = 0;
    const END: u64 = 1;
    let listener = UnixListener::from(listen_privately(socket).map_err(failed)?);
    let input = std::io::stdin();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    epoll.add(&input, EpollEvent::new(EpollFlags::EPOLLIN, END))?;
    let mut server = Server::new()?;
    let mut clients = BTreeMap::new();
    let mut last = END;
    let mut events = [EpollEvent::empty(); 128];
    loop {
        let ready = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in events.iter().take(ready) {
            match event.data() {
                END => return Ok(()),
                LISTENER => {
                    let client = OwnedFd::from(listener.accept()?.0);
                    last += 1;
                    epoll.add(&client, EpollEvent::new(EpollFlags::EPOLLIN, last))?;
                    clients.insert(last, client);
                }
                id => {
                    let gone = match clients.get(&id) {
                        Some(client) => !server.answer(client)?,
                        None => false,
                    };
                    if gone {
                        clients.remove(&id);
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
struct Server {
    device: MemfdDevice,
    ready: BTreeMap<Bytes, OwnedFd>,
    buffer: Vec<u8>,
}

impl Server {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            device: MemfdDevice::new(PagePolicy::Auto, None, Bytes::ZERO)?,
            ready: BTreeMap::new(),
            buffer: vec![0; 4096],
        })
    }

    fn build(&self, bytes: Bytes) -> anyhow::Result<OwnedFd> {
        Ok(self
            .device
            .build(BackingId::FIRST, Place::anywhere(bytes), false)?
            .file)
    }

    /// False where the client is gone.
    fn answer(&mut self, client: &OwnedFd) -> anyhow::Result<bool> {
        let len = match packet::receive_bytes(client.as_fd(), &mut self.buffer) {
            Ok(len) => len,
            Err(PacketError::WouldBlock) => return Ok(true),
            Err(PacketError::Closed) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let (want, bytes) = Want::of(self.buffer.get(..len).unwrap_or_default())?;
        let built = match want {
            Want::Echo => None,
            Want::Build => Some(self.build(bytes)?),
            Want::Pass => {
                if !self.ready.contains_key(&bytes) {
                    self.ready.insert(bytes, self.build(bytes)?);
                }
                None
            }
        };
        let ready = (want == Want::Pass)
            .then(|| self.ready.get(&bytes))
            .flatten();
        let file = built.as_ref().or(ready).map(AsFd::as_fd);
        match packet::send(client.as_fd(), &[0; REPLY_BYTES], file.as_slice()) {
            Ok(()) => Ok(true),
            Err(PacketError::Closed) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The peer's process.
#[derive(Debug)]
pub(crate) struct Bare {
    socket: PathBuf,
    window: Window,
    child: Child,
    /// Its end is the process's.
    input: Option<ChildStdin>,
    _home: TempDir,
}

impl Bare {
    /// Starts it.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("tierpool-bare-")
            .tempdir()?;
        let socket = home.path().join("bare.sock");
        let mut child = Command::new(std::env::current_exe()?)
            .arg("bare")
            .arg("--socket")
            .arg(&socket)
            .stdin(Stdio::piped())
            .spawn()?;
        crate::daemon::until("the peer does not listen", || socket.exists())?;
        let input = child.stdin.take();
        let window = Window::reserve(WindowRange::new(BASE, Bytes::new(TIB))?)?;
        Ok(Self {
            socket,
            window,
            child,
            input,
            _home: home,
        })
    }

    /// A connection.
    pub(crate) fn connect(&self) -> anyhow::Result<BareClient> {
        // It is refused while as many wait as the peer has room for.
        let connect = || match connect_to(&self.socket) {
            Err(failed) if failed.errno == Errno::EAGAIN => None,
            connected => Some(connected),
        };
        let connected = eventually(Deadline::after(PATIENCE), connect)?;
        Ok(BareClient {
            socket: connected.map_err(failed)?,
            window: self.window.clone(),
            buffer: vec![0; 4096],
        })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Err(error) = self.child.wait() {
            eprintln!("the peer could not be waited for: {error}");
        }
    }
}

/// One connection to the peer.
#[derive(Debug)]
pub(crate) struct BareClient {
    socket: OwnedFd,
    window: Window,
    buffer: Vec<u8>,
}

impl BareClient {
    /// A round trip without a descriptor.
    pub(crate) fn echo(&mut self) -> anyhow::Result<()> {
        self.ask(Want::Echo, Bytes::ZERO).map(drop)
    }

    /// A round trip that brings a file, which is mapped.
    pub(crate) fn grant(&mut self, want: Want, bytes: Bytes) -> anyhow::Result<Region> {
        self.grant_at(0, want, bytes)
    }

    /// The same, mapped at the `place`-th place of that size.
    pub(crate) fn grant_at(
        &mut self,
        place: u64,
        want: Want,
        bytes: Bytes,
    ) -> anyhow::Result<Region> {
        let packet = self.ask(want, bytes)?;
        let file = packet.descriptors.first().context("no descriptor came")?;
        let at = BASE.checked_add(Bytes::new(place * bytes.get()));
        let region = self
            .window
            .claim(at.context("the place is no address")?, bytes)?;
        region.map(
            Bytes::ZERO,
            bytes,
            file.as_fd(),
            Bytes::ZERO,
            Access::ReadWrite,
        )?;
        Ok(region)
    }

    fn ask(&mut self, want: Want, bytes: Bytes) -> anyhow::Result<Packet> {
        let socket = self.socket.as_fd();
        packet::send(socket, &want.request(bytes), &[])?;
        // Waited for at once: no attempt is made that can only fail.
        packet::wait_readable(socket, Deadline::NEVER)?;
        let packet = packet::receive(socket, &mut self.buffer)?;
        debug_assert_eq!(packet.len, REPLY_BYTES, "from {}", self.socket.as_raw_fd());
        Ok(packet)
    }
}

fn failed(Failed { call, errno }: Failed) -> anyhow::Error {
    anyhow::anyhow!("{call} failed with {errno}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_what_is_wanted() {
        for want in [Want::Echo, Want::Pass, Want::Build] {
            let request = want.request(Bytes::new(77));
            assert_eq!(Want::of(&request).unwrap(), (want, Bytes::new(77)));
        }
        assert!(Want::of(&[9; REQUEST_BYTES]).is_err());
        assert!(Want::of(&[1; 4]).is_err());
    }
}
