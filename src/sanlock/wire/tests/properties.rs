//! Any bytes, however cut: no panic, bounded memory, and the cut does not matter.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::header::{Command, Header, PROTOCOL};
use super::super::reader::{Progress, RequestReader};
use super::super::request::LONGEST_BODY;
use super::super::structs::Resource;

/// What a hostile or broken client may send as one message.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let header = (
        prop_oneof![9 => Just(PROTOCOL), 1 => any::<u32>()],
        0..47_u32,
        prop_oneof![0..32_u32, any::<u32>()],
        prop_oneof![0..6000_u32, any::<u32>()],
        prop_oneof![-2..12_i32, any::<i32>()],
        prop_oneof![-2..12_i32, any::<i32>()],
    );
    let body = prop_oneof![
        vec(any::<u8>(), 0..1500),
        (0..6_u32, 0..6000_usize).prop_map(|(disks, len)| {
            let mut bytes = vec![0; len.max(Resource::LEN)];
            bytes[124..128].copy_from_slice(&disks.to_ne_bytes());
            bytes
        }),
    ];
    prop_oneof![
        1 => vec(any::<u8>(), 0..100),
        5 => (header, body).prop_map(|((version, command, flags, length, data, data2), body)| {
            let header = Header { version, command, flags, length, seq: 0, data, data2 };
            [&header.emit()[..], &body].concat()
        }),
    ]
}

fn drive(bytes: &[u8], cuts: &[usize]) -> (Vec<Progress>, Progress) {
    let mut reader = RequestReader::new();
    let mut seen = vec![];
    let mut at = 0;
    for cut in cuts.iter().copied().cycle() {
        let mut input = &bytes[at..bytes.len().min(at + cut)];
        at += input.len();
        let last = loop {
            match reader.read(&mut input) {
                Progress::Need(n) => {
                    assert!(input.is_empty());
                    assert!((1..=LONGEST_BODY).contains(&n), "{n}");
                    break Progress::Need(n);
                }
                progress => seen.push(progress),
            }
        };
        if at == bytes.len() {
            return (seen, last);
        }
    }
    unreachable!("cuts go round")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_in_any_cut(messages in vec(message(), 1..5), cuts in vec(1..3000_usize, 1..8)) {
        let bytes = messages.concat();
        let whole = drive(&bytes, &[bytes.len().max(1)]);
        prop_assert_eq!(drive(&bytes, &cuts), whole);
    }
}

#[test]
fn every_number_is_one_command_or_none() {
    for number in 0..100 {
        match Command::try_from(number) {
            Ok(command) => assert_eq!(command as u32, number),
            Err(unknown) => assert!(unknown.0 == 0 || unknown.0 > 44, "{unknown:?}"),
        }
    }
    assert_eq!(Command::ALL.len(), 44);
}
