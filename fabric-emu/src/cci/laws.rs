//! Laws that hold for every command, tried on values and on bytes of all kinds.

use proptest::prelude::*;

use super::commands::samples;
use super::event_records::EventRecord;
use super::logs::CommandEffect;
use super::sample::{Sample, Source};
use super::virtual_switch::GetVcsInfoRequest;
use super::*;
use crate::id::{VcsId, VppbId};

fn any_opcode() -> impl Strategy<Value = Opcode> {
    prop::sample::select(Opcode::ALL)
}

fn comes_back<T: Sample + Wire + PartialEq + core::fmt::Debug>(source: &mut Source) {
    let value: T = source.sample();
    assert_eq!(T::decode(&value.encode()).as_ref(), Ok(&value));
}

/// A few bytes of `bytes` are changed, and at times some are added or lost.
fn damaged(mut bytes: Vec<u8>, source: &mut Source) -> Vec<u8> {
    match source.below(4) {
        0 => bytes.truncate(source.below(bytes.len() + 1)),
        1 => bytes.extend((0..source.below(9)).map(|_| source.sample::<u8>())),
        _ => {}
    }
    for _ in 0..source.below(4) {
        if !bytes.is_empty() {
            let place = source.below(bytes.len());
            bytes[place] = source.sample();
        }
    }
    bytes
}

/// What is understood of bytes has as many of them, and is the same when it is read again.
fn keeps_its_length(opcode: u16, bytes: &[u8]) {
    if let Ok(request) = Request::decode(opcode, bytes) {
        let (same, payload) = request.encode();
        assert_eq!((same, payload.len()), (opcode, bytes.len()));
        assert_eq!(Request::decode(opcode, &payload), Ok(request));
    }
    if let Ok(response) = Response::decode(opcode, bytes) {
        let (same, payload) = response.encode();
        assert_eq!((same, payload.len()), (opcode, bytes.len()));
        assert_eq!(Response::decode(opcode, &payload), Ok(response));
    }
}

proptest! {
    #[test]
    fn every_command_comes_back_as_it_went(opcode in any_opcode(), seed: u64) {
        let (request, response) = samples(opcode, &mut Source::new(seed));
        // Some lists may be empty on the wire but not in a request.
        let (number, payload) = request.encode();
        match Request::decode(number, &payload) {
            Ok(again) => prop_assert_eq!(again, request),
            Err(code) => prop_assert!(names_nothing(&request), "{:?}", code),
        }
        let (number, payload) = response.encode();
        match Response::decode(number, &payload) {
            Ok(again) => prop_assert_eq!(again, response),
            Err(code) => prop_assert_eq!(opcode, Opcode::TunnelManagementCommand, "{:?}", code),
        }
    }

    #[test]
    fn tunnels_carry_whole_messages(seed: u64, port: u8) {
        let source = &mut Source::new(seed);
        let mut message: Message = source.sample();
        message.category = Category::Request;
        let request = Request::TunnelManagementCommand(tunnel::TunnelRequest {
            port_or_ld_id: port,
            target_type: source.sample(),
            command: message.encode().try_into().unwrap(),
        });
        let (number, payload) = request.encode();
        prop_assert_eq!(Request::decode(number, &payload), Ok(request));
        message.category = Category::Response;
        let response = Response::TunnelManagementCommand(tunnel::TunnelResponse {
            response: message.encode().try_into().unwrap(),
        });
        let (number, payload) = response.encode();
        prop_assert_eq!(Response::decode(number, &payload), Ok(response));
    }

    #[test]
    fn part_of_the_bridges_is_read_by_what_was_asked(seed: u64, start in 0..6u8, limit in 1..6u8) {
        let source = &mut Source::new(seed);
        let mut answer: virtual_switch::GetVcsInfoResponse = source.sample();
        let mut vcss = core::mem::take(&mut answer.vcss).into_vec();
        for vcs in &mut vcss {
            let all = core::mem::take(&mut vcs.vppbs).into_vec();
            let part = all.into_iter().skip(start.into()).take(limit.into());
            vcs.vppbs = part.collect::<Vec<_>>().try_into().unwrap();
        }
        answer.vcss = vcss.try_into().unwrap();
        let request = Request::GetVcsInfo(GetVcsInfoRequest {
            start_vppb: VppbId(start),
            vppb_list_limit: limit,
            vcss: vec![VcsId(0)].try_into().unwrap(),
        });
        let response = Response::GetVcsInfo(answer);
        let (_, payload) = response.encode();
        prop_assert_eq!(Response::decode_for(&request, &payload), Ok(response));
    }

    #[test]
    fn records_and_messages_come_back_as_they_went(seed: u64) {
        let source = &mut Source::new(seed);
        comes_back::<EventRecord>(source);
        comes_back::<CommandEffect>(source);
        comes_back::<DpaExtent>(source);
        let message: Message = source.sample();
        let bytes = message.encode();
        prop_assert_eq!(Message::length(&bytes), Some(bytes.len()));
        prop_assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn what_is_understood_is_as_long_as_its_bytes(opcode in any_opcode(), seed: u64) {
        let source = &mut Source::new(seed);
        let (request, response) = samples(opcode, source);
        let (number, payload) = request.encode();
        keeps_its_length(number, &damaged(payload, source));
        let (number, payload) = response.encode();
        keeps_its_length(number, &damaged(payload, source));
    }

    #[test]
    fn no_bytes_can_harm(opcode: u16, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        keeps_its_length(opcode, &bytes);
        for known in Opcode::ALL {
            keeps_its_length(known.number(), &bytes);
        }
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode(), bytes.clone());
        }
        if let Ok(record) = EventRecord::decode(&bytes) {
            prop_assert_eq!(record.encode().len(), bytes.len());
        }
    }

    #[test]
    fn damaged_messages_are_refused_or_exact(seed: u64) {
        let source = &mut Source::new(seed);
        let bytes = damaged(source.sample::<Message>().encode(), source);
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert_eq!(message.encode(), bytes);
        }
    }
}

fn names_nothing(request: &Request) -> bool {
    match request {
        Request::GetVcsInfo(request) => request.vcss.is_empty(),
        Request::SetLdAllocations(request) => request.allocations.is_empty(),
        // A command in a tunnel is a whole message; those samples are bytes of any kind.
        Request::TunnelManagementCommand(_) => true,
        _ => false,
    }
}

#[test]
fn no_unknown_command_is_understood() {
    for opcode in 0..=u16::MAX {
        if Opcode::of(opcode).is_none() {
            assert_eq!(Request::decode(opcode, &[]), Err(ReturnCode::Unsupported));
            assert_eq!(
                Response::decode(opcode, &[]),
                Err(Malformed::Opcode(opcode))
            );
        }
    }
}

#[test]
fn codes_and_numbers_are_one_to_one() {
    for opcode in Opcode::ALL {
        assert_eq!(Opcode::of(opcode.number()), Some(*opcode));
    }
    assert_eq!(Opcode::ALL.len(), 45);
    for (number, code) in ReturnCode::ALL.iter().enumerate() {
        assert_eq!(usize::from(code.number()), number);
        assert_eq!(ReturnCode::of(code.number()), Some(*code));
    }
    assert_eq!(ReturnCode::ALL.len(), 0x21);
}

#[test]
fn a_list_longer_than_a_payload_cannot_be_made() {
    let extent = DpaExtent {
        start_dpa: 0,
        length: 0,
        tag: Tag::default(),
        shared_extent_sequence: 0,
    };
    let max = dcd::EXTENTS_MAX;
    let most: dcd::Extents = vec![extent.clone(); max].try_into().unwrap();
    let request = Request::InitiateAdd(dcd_management::InitiateAddRequest {
        host_id: crate::id::LdId(0),
        selection_policy: dcd_management::SelectionPolicy::Prescriptive,
        region_number: 0,
        length: 0,
        tag: Tag::default(),
        extents: Some(most),
    });
    let (opcode, payload) = request.encode();
    assert!(payload.len() <= MAX_PAYLOAD);
    assert_eq!(Request::decode(opcode, &payload), Ok(request));
    let more: Result<dcd::Extents, TooMany> = vec![extent; max + 1].try_into();
    assert_eq!(
        more,
        Err(TooMany {
            count: max + 1,
            max
        })
    );
}

#[test]
fn a_count_beyond_the_bytes_makes_no_room() {
    let mut payload = vec![0; 0x20];
    payload[0x02] = 2;
    payload[0x1c..0x20].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        Request::decode(0x5604, &payload),
        Err(ReturnCode::InvalidPayloadLength)
    );
    let long = vec![0; MAX_PAYLOAD + 1];
    assert_eq!(
        Request::decode(0x0401, &long),
        Err(ReturnCode::InvalidPayloadLength)
    );
    assert_eq!(Response::decode(0x0401, &long), Err(Malformed::Length));
}
