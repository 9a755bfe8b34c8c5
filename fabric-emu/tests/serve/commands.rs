//! Commands over sockets: the same bytes as in process, in order, and what takes its time.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use fabric_emu::cci::dcd::GetDcConfigRequest;
use fabric_emu::cci::dcd_management::{InitiateAddRequest, SelectionPolicy};
use fabric_emu::cci::events::{EventLog, GetEventRecordsRequest};
use fabric_emu::cci::generic::{Empty, ResponseMessageLimit};
use fabric_emu::cci::{Message, Opcode, Request, Response, ReturnCode};
use fabric_emu::fabric::{Cci, Effect, Event, Fabric};
use fabric_emu::id::{HostId, LdId, SwitchId};
use fabric_emu::serve::{AskError, Config, MESSAGE_BYTES_MAX, Mode};
use fabric_emu::span::Span;
use pool_core::units::MIB;

use crate::rig::{OWN, POOL, Rig, binding, list, soon, tag, topology};

const SWITCH: (&str, Cci) = ("switch0.cci", Cci::Switch(SwitchId(0)));
const MEMDEV: (&str, Cci) = ("memdev0.cci", Cci::Memdev(POOL));
const MAILBOX: (&str, Cci) = (
    "host0-memdev0-ld0.cci",
    Cci::Mailbox {
        host: HostId(0),
        memdev: POOL,
        ld: LdId(0),
    },
);

/// A manager binds a host and offers it memory, which it takes, with a look at everything between.
fn story() -> Vec<((&'static str, Cci), Request)> {
    let progress = Request::BackgroundOperationStatus(Empty);
    let add = InitiateAddRequest {
        host_id: LdId(0),
        selection_policy: SelectionPolicy::Contiguous,
        region_number: OWN,
        length: 4 * MIB,
        tag: tag(7),
        extents: None,
    };
    let log = GetEventRecordsRequest {
        event_log: EventLog::DynamicCapacity,
    };
    let regions = GetDcConfigRequest {
        region_count: 8,
        starting_region_index: 0,
    };
    let taken = list(&[Span::new(0, 4 * MIB).unwrap()]);
    vec![
        (SWITCH, Request::Identify(Empty)),
        (SWITCH, Request::IdentifySwitchDevice(Empty)),
        (SWITCH, Request::BindVppb(binding(0, 0, 0))),
        (SWITCH, progress),
        (SWITCH, Request::BindVppb(binding(0, 0, 0))),
        (MEMDEV, Request::GetDcdInfo(Empty)),
        (MEMDEV, Request::InitiateAdd(add.clone())),
        (MAILBOX, Request::Identify(Empty)),
        (MAILBOX, Request::GetDcConfig(regions)),
        (MAILBOX, Request::GetEventRecords(log.clone())),
        (MAILBOX, Request::AddDcResponse(taken.clone())),
        (MAILBOX, Request::AddDcResponse(taken)),
        (MEMDEV, Request::GetEventRecords(log)),
        (MEMDEV, Request::InitiateAdd(add)),
        (MAILBOX, Request::GetSupportedLogs(Empty)),
        (MAILBOX, Request::BindVppb(binding(0, 0, 0))),
    ]
}

/// What the fabric answers in process. Time is that of whoever asks for progress.
fn in_process(fabric: &mut Fabric, cci: Cci, message: &Message) -> Vec<u8> {
    let now = match (message.opcode, fabric.next_due()) {
        (0x0002, Some(due)) => due,
        _ => fabric.now(),
    };
    let message = message.encode();
    let mut effects = fabric.step(now, &Event::Command { cci, message });
    match effects.pop() {
        Some(Effect::Answer(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_comes_over_a_socket_is_what_the_fabric_answers_in_process() {
    let rig = Rig::start();
    let mut fabric = Fabric::new(&topology(), 1).unwrap();
    let mut codes = Vec::new();
    for (number, ((name, cci), request)) in (0..).zip(story()) {
        let message = Message::request(number, &request).unwrap();
        let expected = in_process(&mut fabric, cci, &message);
        let answer = rig.remote(name).exchange(&message.encode()).unwrap();
        assert_eq!(answer, expected, "{name}: {request:?}");
        codes.push(Message::decode(&answer).unwrap().return_code);
    }
    // All kinds of answers are among them.
    for code in [
        ReturnCode::Success,
        ReturnCode::BackgroundCommandStarted,
        ReturnCode::InvalidInput,
        ReturnCode::Unsupported,
    ] {
        assert!(codes.contains(&code), "{code:?}: {codes:?}");
    }
}

#[test]
fn messages_that_come_at_once_are_answered_in_order() {
    let rig = Rig::start();
    let mut socket = UnixStream::from(std::os::fd::OwnedFd::from(connect_std(&rig, SWITCH.0)));
    let opcodes = [
        Opcode::Identify,
        Opcode::GetTimestamp,
        Opcode::IdentifySwitchDevice,
    ];
    let requests = [
        Request::Identify(Empty),
        Request::GetTimestamp(Empty),
        Request::IdentifySwitchDevice(Empty),
    ];
    let mut bytes = Vec::new();
    for number in 0..60 {
        let request = &requests[usize::from(number) % 3];
        bytes.extend(Message::request(number, request).unwrap().encode());
    }
    // In pieces that are no messages.
    for piece in bytes.chunks(7) {
        socket.write_all(piece).unwrap();
    }
    let mut input = Vec::new();
    for number in 0..60 {
        let answer = read_message(&mut socket, &mut input);
        let opcode = opcodes[usize::from(number) % 3];
        assert_eq!((answer.tag, answer.opcode), (number, opcode.number()));
        assert_eq!(answer.return_code, ReturnCode::Success);
    }
}

/// A plain socket, as another client has it.
pub(crate) fn connect_std(rig: &Rig, name: &str) -> UnixStream {
    use std::os::fd::AsRawFd as _;

    // The path is longer than the kernel takes.
    let directory = std::fs::File::open(rig.directory()).unwrap();
    let path = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    UnixStream::connect(path).unwrap()
}

pub(crate) fn read_message(socket: &mut UnixStream, input: &mut Vec<u8>) -> Message {
    loop {
        if let Some(length) = Message::length(input).filter(|&length| length <= input.len()) {
            let rest = input.split_off(length);
            return Message::decode(&std::mem::replace(input, rest)).unwrap();
        }
        let mut buffer = [0; 4_096];
        let read = socket.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the connection was closed");
        input.extend_from_slice(&buffer[..read]);
    }
}

#[test]
fn the_longest_message_that_is_taken_is_the_one_that_identify_says() {
    let rig = Rig::start();
    let Ok(Response::Identify(identity)) = rig.remote(SWITCH.0).ask(&Request::Identify(Empty))
    else {
        panic!("it identifies itself");
    };
    assert_eq!(1_usize << identity.maximum_message_size, MESSAGE_BYTES_MAX);
    // One of that length is read whole, and refused for what it is.
    let payload = vec![0; MESSAGE_BYTES_MAX - Message::HEADER_BYTES];
    let mut message = Message::request(1, &Request::Identify(Empty)).unwrap();
    message.payload = payload.try_into().unwrap();
    let answer = rig.remote(SWITCH.0).exchange(&message.encode()).unwrap();
    let code = Message::decode(&answer).unwrap().return_code;
    assert_eq!(code, ReturnCode::InvalidPayloadLength);
    let longer = vec![0; MESSAGE_BYTES_MAX - Message::HEADER_BYTES + 1];
    message.payload = longer.try_into().unwrap();
    let answer = rig.remote(SWITCH.0).exchange(&message.encode());
    assert_eq!(answer, Err(AskError::Dropped));
}

#[test]
fn an_interface_that_nobody_is_behind_closes_the_connection() {
    let rig = Rig::start();
    let identify = Request::Identify(Empty);
    let mut mailbox = rig.mailbox(0);
    assert_eq!(mailbox.ask(&identify), Err(AskError::Dropped));
    rig.bind_all();
    // It is the old connection that is closed.
    assert_eq!(mailbox.ask(&identify), Err(AskError::Dropped));
    assert!(rig.mailbox(0).ask(&identify).is_ok());
    let mut other = rig.remote("host0-memdev0-ld1.cci");
    assert_eq!(other.ask(&identify), Err(AskError::Dropped));
}

#[test]
fn what_is_begun_is_waited_for_in_the_time_of_the_machine_or_of_the_fabric() {
    for mode in [Mode::Virtual, Mode::Paced] {
        let rig = Rig::with(Config::new(mode, 1));
        rig.bind_all();
        let state = rig.operator().state().unwrap();
        // Each bridge takes 10 ms.
        assert!(state.now_picos >= 20_000_000_000, "{state:?}");
        assert_eq!((state.mode, state.emulated), (mode, true));
        assert!(rig.mailbox(1).ask(&Request::Identify(Empty)).is_ok());
    }
}

#[test]
fn a_background_command_ends_also_where_nobody_asks_for_it() {
    for mode in [Mode::Virtual, Mode::Paced] {
        let rig = Rig::with(Config::new(mode, 1));
        let mut switch = rig.remote(SWITCH.0);
        let begun = switch.ask(&Request::BindVppb(binding(0, 0, 0)));
        assert_eq!(begun, Err(AskError::Begun));
        let reached = pool_core::clock::eventually(soon(), || {
            let is_there = rig.mailbox(0).ask(&Request::Identify(Empty)).is_ok();
            is_there.then_some(())
        });
        assert_eq!(reached, Ok(()), "{mode}");
    }
}

#[test]
fn a_refused_command_says_its_code_and_the_connection_goes_on() {
    let rig = Rig::start();
    let mut switch = rig.remote(SWITCH.0);
    let limit = Request::SetResponseMessageLimit(ResponseMessageLimit { limit: 8 });
    assert!(switch.ask(&limit).is_ok());
    let refused = switch.ask(&Request::BindVppb(binding(9, 0, 0)));
    assert_eq!(refused, Err(AskError::Refused(ReturnCode::InvalidInput)));
    let nothing_begun = switch.ask(&Request::RequestAbortBackgroundOperation(Empty));
    assert_eq!(
        nothing_begun,
        Err(AskError::Refused(ReturnCode::InvalidInput))
    );
    assert_eq!(switch.finish(soon()), Ok(ReturnCode::Success));
}
