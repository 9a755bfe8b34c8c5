//! The peer that hands objects from process to process without a copy: iceoryx2, by publishing and
//! subscribing, both sides polling.
//!
//! Each side publishes on a service of its own and subscribes to the other's. An object is loaned,
//! written in place at both ends, and sent; the receiver reads both ends.

use anyhow::ensure;
use iceoryx2::node::{Node, NodeBuilder};
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::{LogLevel, SignalHandlingMode, ipc, set_log_level};

use super::partner::spin;
use crate::lock_file::version_of;

/// Which version takes part.
pub(super) const VERSION: Result<fn() -> &'static str, &'static str> =
    Ok(|| version_of("iceoryx2"));

/// As many bytes as the small object.
type Letter = [u64; 8];

/// One side's way to the other and back.
#[derive(Debug)]
pub(super) struct Mail {
    publisher: Publisher<ipc::Service, Letter, ()>,
    subscriber: Subscriber<ipc::Service, Letter, ()>,
    _node: Node<ipc::Service>,
}

impl Mail {
    /// The mail of side `number`, 0 or 1, of the run of the process `run`.
    pub(super) fn new(run: u32, number: u32) -> anyhow::Result<Self> {
        set_log_level(LogLevel::Error);
        let node = NodeBuilder::new()
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;
        let service = |of: u32| {
            let name = format!("tierpool-benches/{run}/{of}");
            let name = name.as_str().try_into()?;
            let builder = node.service_builder(&name).publish_subscribe::<Letter>();
            anyhow::Ok(builder.open_or_create()?)
        };
        Ok(Self {
            publisher: service(number)?.publisher_builder().create()?,
            subscriber: service(1 - number)?.subscriber_builder().create()?,
            _node: node,
        })
    }

    /// Hands an object over.
    #[inline]
    pub(super) fn send(&self, value: u64) -> anyhow::Result<()> {
        let mut loan = self.publisher.loan()?;
        let [first, .., last] = loan.payload_mut();
        (*first, *last) = (value, value);
        loan.send()?;
        Ok(())
    }

    /// Polls until the other hands one over.
    #[inline]
    pub(super) fn receive(&self) -> anyhow::Result<u64> {
        let mut got = Ok(None);
        spin(|| {
            got = self.subscriber.receive();
            !matches!(got, Ok(None))
        })?;
        let Some(letter) = got? else {
            anyhow::bail!("nothing came");
        };
        let [first, .., last] = *letter;
        ensure!(
            first == last,
            "a letter begins with {first}, ends with {last}"
        );
        Ok(first)
    }
}
