//! A fabric as a process of its own: commands over Unix sockets, memory as files.
//!
//! Several daemons, one for each host, share one emulated device through this. A [`Server`] owns a
//! [`Fabric`](crate::fabric::Fabric) and a directory that is its user's alone, with the sockets of
//! [`names`]. What goes on behind them is the fabric's; this is the shell around it, and the one
//! place of the crate that reads a clock, waits, and opens files.
//!
//! # Commands
//! The bytes on a socket for commands are exactly those of messages ([`crate::cci::Message`]): the
//! length in a header says where the next one begins. They are answered in order. What the fabric
//! drops has no answer, because nobody is there, or because it is no command: **the server closes
//! the connection then**. A client connects anew; it cannot tell which of the two it was, as with
//! real hardware that says nothing. A fault may have an answer come late: it is sent when it is
//! due, behind answers to later commands, and the tag in its header tells whose it is.
//!
//! # Memory
//! What a host has it may *carve*: [`wire`] says how. A carving is a file, as a dax device would
//! be, and belongs to the host: it outlives the connection that asked for it. When its memory
//! leaves the host it ends, and the server closes the file. Whoever has that mapped still stores
//! into a file that nobody else is ever given; the next owner has a new one, of zeros. What is
//! shared is one file for all hosts of its group, from its first carving until the group or the
//! device is gone: it is the one memory that who left may store into while others have it.
//!
//! The bytes in these files are not those that [`Event::Store`](crate::fabric::Event::Store) and
//! the commands for media (poison, sanitize) change: those are the fabric's own.
//!
//! # Bounds
//! `stream` and `session` say what one connection may cost, `server` how many there are. What
//! a peer sends has the server neither panic, nor wait, nor grow.
//!
//! # Files
//! `server`: the loop. `work`: what is done with what comes in. [`carvings`]: which memory is
//! carved, a pure part. `files`: the files. [`control`]: operators. `directory`, `pace`,
//! `stop`: where, how fast and how long. `remote`, `carver`, `operator`: the clients.

mod carver;
pub mod carvings;
mod client;
pub mod control;
mod directory;
mod files;
pub mod names;
mod operator;
mod pace;
mod remote;
mod server;
mod session;
mod stop;
mod stream;
pub mod wire;
mod work;

pub use carver::{Carver, CarverError, Cut};
pub use client::ConnectError;
pub use directory::DirectoryError;
pub use operator::{Operator, OperatorError};
pub use pace::Mode;
pub use remote::{AskError, Remote, WrongAnswer};
pub use server::{Config, SOCKETS_MAX, ServeError, Server};
pub use stop::{NoStop, Stop, Stopper};
pub use stream::{MESSAGE_BYTES_MAX, ORDER_BYTES_MAX};
