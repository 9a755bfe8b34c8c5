//! One accepted connection: a Unix or TCP stream, its place among the connections, and the
//! patience it is shown.
//!
//! A peer that connects and says nothing would keep a descriptor for ever: HTTP/2 has no
//! time-out for its first bytes. So a connection has a deadline. For gRPC it is lifted once
//! the first bytes are there (a client may then rest as long as it likes, or follow events); for a
//! scrape it stands, since a scrape is one short exchange.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Duration, Sleep, sleep};
use tonic::transport::server::Connected;

use super::admit::Permit;
use super::peer::Peer;

/// How long a peer may take for its first bytes, or for a whole scrape.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the greeting of an HTTP/2 client, and fewer than any TLS greeting has.
const GREETING_BYTES: usize = 24;

/// When the deadline of a connection is lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Once the client has greeted.
    UntilGreeting,
    /// Never.
    Throughout,
}

/// The stream itself.
#[derive(Debug)]
pub(super) enum Stream {
    /// Of this machine.
    Unix(UnixStream),
    /// Of any machine.
    Tcp(TcpStream),
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    peer: Peer,
    patience: Patience,
    // `None` once it is lifted.
    deadline: Option<Pin<Box<Sleep>>>,
    greeted_bytes: usize,
    _permit: Permit,
}

impl Socket {
    pub(super) fn new(stream: Stream, peer: Peer, patience: Patience, permit: Permit) -> Self {
        Self {
            stream,
            peer,
            patience,
            deadline: Some(Box::pin(sleep(PATIENCE))),
            greeted_bytes: 0,
            _permit: permit,
        }
    }

    fn check_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let passed = self
            .deadline
            .as_mut()
            .is_some_and(|deadline| deadline.as_mut().poll(context).is_ready());
        if passed {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn count_greeting(&mut self, bytes: usize) {
        self.greeted_bytes = self.greeted_bytes.saturating_add(bytes);
        if self.patience == Patience::UntilGreeting && self.greeted_bytes >= GREETING_BYTES {
            self.deadline = None;
        }
    }
}

impl Connected for Socket {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_deadline(context)?;
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        self.count_greeting(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_deadline(context)?;
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::admit::Admission;
    use super::super::peer::Operators;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::advance;

    /// Runs `body` with a clock that only `advance` moves, so that no test waits.
    fn paused(body: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(body);
    }

    fn connected(patience: Patience) -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = Peer::Local { uid: 0, gid: 0 };
        let permit = Admission::new(Operators::new(&[])).admit(peer).unwrap();
        (
            Socket::new(Stream::Unix(ours), peer, patience, permit),
            theirs,
        )
    }

    async fn read(socket: &mut Socket, bytes: usize) -> io::Result<usize> {
        socket.read_exact(&mut vec![0; bytes]).await
    }

    #[test]
    fn a_peer_that_does_not_greet_is_let_go() {
        paused(async {
            let (mut socket, mut theirs) = connected(Patience::UntilGreeting);
            theirs.write_all(&[0; GREETING_BYTES - 1]).await.unwrap();
            let error = read(&mut socket, GREETING_BYTES).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_peer_that_has_greeted_may_rest() {
        paused(async {
            let (mut socket, mut theirs) = connected(Patience::UntilGreeting);
            theirs.write_all(&[0; GREETING_BYTES]).await.unwrap();
            read(&mut socket, GREETING_BYTES).await.unwrap();
            advance(PATIENCE * 100).await;
            theirs.write_all(&[0; 1]).await.unwrap();
            read(&mut socket, 1).await.unwrap();
        });
    }

    #[test]
    fn a_scrape_that_trickles_or_does_not_read_is_let_go() {
        paused(async {
            let (mut socket, mut theirs) = connected(Patience::Throughout);
            theirs.write_all(&[0; GREETING_BYTES]).await.unwrap();
            read(&mut socket, GREETING_BYTES).await.unwrap();
            advance(PATIENCE).await;
            theirs.write_all(&[0; 1]).await.unwrap();
            let error = read(&mut socket, 1).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let error = socket.write_all(&[0; 1]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }
}
