//! The directory between hosts: who of several hosts may read and write which extent of a device
//! that they share, over a network that loses, doubles, delays and reorders messages.
//!
//! One daemon is the [`Home`]: that of the host which manages the device. Each host that uses the
//! device, the home's own in slot 0 included, runs a [`Peer`]. Both are pure state machines:
//! `step(now, input)` returns what must be done outside, in order. They read no clock, do no I/O
//! and hold no float; equal inputs give equal outputs. A simulator drives them, and
//! over the memory that the hosts share a [`board::Station`] does.
//!
//! # Words
//! - **Right**: nothing, shared (read) or exclusive (read and write), of a host to an extent.
//! - **Ticket**: the number of a request. A peer uses each one once in an era. A grant carries the
//!   ticket of its request, and all that is said of the grant names it.
//! - **Epoch**: of an extent; rises with each exclusive grant and each loss.
//! - **Version**: of an extent; rises with each published change and each loss.
//! - **Era**: of a host; rises each time it joins. **Boot**: its own number for its present life.
//! - **Term**: rises with each start of the home.
//!
//! # Protocol
//! ```text
//! peer                                home
//! Join{boot}           ------------>                     journal: member, era + 1
//!                      <------------  Welcome{boot}
//! Request{ticket}      ------------>  others in the way?
//!                                     Recall{ticket, to} -------> their peers
//!                                     <------- Release{ticket, keep, outcome}
//!                                     Released{ticket} ------->
//!                                                        journal: holder, epoch
//!                      <------------  Grant{ticket, right, epoch, version}
//! ```
//! A peer keeps a grant until it is recalled or dropped, and serves users of its host from it. On
//! a recall it lets no user in, waits for those that stand in the way, writes back (the users did,
//! before they released), then gives back. A peer that wants more than it holds gives up first and
//! asks anew, so no two of them wait for each other. Requests of an extent are granted in the order
//! of their coming.
//!
//! Who sends again: the peer its request until it is granted or refused, its release until it is
//! acknowledged, its join until it is answered; the home its recalls until they are followed, and
//! its greeting until it is answered. Pauses double up to a longest one.
//!
//! # Why any order of messages is right
//! 1. *A grant that is late.* A peer takes a grant for the one request of the extent that is out,
//!    by its ticket. After a release or a cancelled wait that ticket is out no more.
//! 2. *A recall that overtakes its grant.* The peer still asks, so it takes no notice; the grant
//!    comes, or is asked for again, and the home recalls again.
//! 3. *A recall of what the peer does not hold.* Its ticket is settled and is never out again, so
//!    the peer may promise that it never uses the grant: `Release` with [`Outcome::Unused`].
//! 4. *A release that is late.* It changes only the grant of its own ticket. The rights under one
//!    ticket only fall, and each release says all that is owed: the later one may arrive first.
//! 5. *A request that is late.* Messages carry a floor under which all tickets are settled. Where
//!    the floor does not help (a lower ticket is still out, or the home was restarted) the home
//!    grants what nobody uses. It gets it back by 3. If the first grant's release comes once more,
//!    its epoch is not the second grant's: nothing of what it reports is done twice.
//! 6. *A message of a former life.* Eras differ, and each side throws away the other eras'.
//! 7. *A lost acknowledgement.* The release comes again, finds nothing to end, and is acknowledged.
//!
//! # Death and fencing
//! A host that is silent blocks what it holds, and no more: who waits for that hears
//! [`Denial::Unavailable`] after its deadline, never data. Time alone gives nobody's right to
//! another. To take it, the driver says [`HomeInput::Condemn`]: from then on the host is not heard,
//! which is journaled *before* the fabric is asked ([`HomeOutput::Fence`]). In the other order, a
//! host that is cut off and does not know it would report a change that never reached the device.
//! When the fabric has proved that it writes no more, [`HomeInput::HostFenced`] clears what it read
//! and marks what it owned as lost: [`HomeOutput::Lost`]. Lost extents are denied until they are
//! repaired from a copy of the last good version (no other: a published change would vanish),
//! accepted as they are, or withdrawn. A loss raises the version above all that the owner's host
//! may have cached.
//!
//! A host that comes back joins in a new era. If its former life held anything, it waits until that
//! is fenced: the home says [`HomeOutput::Suspect`].
//!
//! # Restart of the home
//! Each step's records come out before its messages, and are durable before those are sent. So a
//! home that dies at any point has said nothing that its journal does not say; to its peers a
//! restart is a time of lost messages. Those who wait ask again. The new home greets its members
//! until each has announced what it holds; what the journal does not say is void, and its users
//! are stopped. Recovery is idempotent, and so is each record: it is a whole row. A half durable
//! fence leaves the host condemned, and the fence is asked for again.
//!
//! # Duties of the driver
//! - Records first, in order; then the rest. An input whose step was not durable is told again.
//! - `boot` rises with each life of a host, and is never used twice.
//! - A peer's daemon that restarts has forgotten what it held. It ends its users and drops its
//!   caches of the device before it joins.
//! - A user's writes are on the device when it releases; what was [`PeerOutput::Revoked`] is
//!   stopped.
//! - The fabric is asked to fence after [`HomeOutput::Fence`], not before.
//!
//! # Invariants
//! 1. Of the hosts whose era is not fenced, one writes an extent or any number read it.
//! 2. What such a host holds, the home's journal says: the same ticket and epoch, no lesser right.
//! 3. A grant carries the last published version. A version means one content, for ever.
//! 4. Epoch, version, era and term never fall. No two exclusive grants have one epoch.
//! 5. A refused input changes nothing and is counted.
//! 6. Nothing is sent that the journal does not say.
//! 7. Once faults end, each request is granted or refused.
//!
//! # Bounds
//! A home has at most [`SLOTS`] hosts, a row for each extent, and at most one waiting request of a
//! host for an extent, of at most `contended_max` extents. A peer knows at most `extents_max`
//! extents with `users_max` users each. What is over a bound is told [`Denial::Busy`].
//!
//! # How it is checked
//! `tests/host_explorer` visits every world of small scopes, with all that was ever sent
//! deliverable at any time, again and again; from each it lets things run without further faults
//! and sees that all are answered. It also runs many hosts at random, and finds every bug that is
//! planted here.

pub mod board;
mod home;
mod message;
mod peer;
mod refusal;
mod row;
mod timer;

pub use home::{Broken, Home, HomeInput, HomeLimits, HomeOutput, RecoverError};
pub use message::{
    Ask, Denial, NUMBER_MAX, Outcome, PUBLISHED_MAX, Right, SLOTS, Tell, ToHome, ToPeer,
};
pub use peer::{Change, Peer, PeerInput, PeerLimits, PeerOutput};
pub use refusal::{Counts, Refusal};
pub use row::{Record, Row, Standing, State};
