//! Whatever a target sends: the login ends, and what it ends with is legal.

use proptest::prelude::*;

use super::*;
use crate::login::keys::TABLE;

/// A key of the standard or something like one.
fn key() -> impl Strategy<Value = String> {
    let known: Vec<&'static str> = TABLE
        .iter()
        .map(|spec| spec.name)
        .chain([
            "AuthMethod",
            "CHAP_A",
            "CHAP_I",
            "CHAP_C",
            "CHAP_N",
            "CHAP_R",
        ])
        .collect();
    prop_oneof![
        8 => proptest::sample::select(known).prop_map(str::to_owned),
        1 => "[A-Za-z.-]{1,8}",
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "None",
            "CHAP",
            "CRC32C",
            "Yes",
            "No",
            "Irrelevant",
            "Reject",
            "NotUnderstood",
            "0",
            "1",
            "5",
            "8",
            "512",
            "8192",
            "0x10000",
            "16777215",
            "16777216",
            "0x00ff",
            "0bAP8=",
            "disk",
            "RFC3720",
        ])
        .prop_map(str::to_owned),
        any::<u32>().prop_map(|number| number.to_string()),
        "[ -~]{0,20}",
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    let pairs = proptest::collection::vec((key(), value()), 0..4);
    prop_oneof![
        8 => pairs.prop_map(|pairs| {
            let pairs = pairs.into_iter().map(|(key, value)| format!("{key}={value}\0"));
            pairs.collect::<String>().into_bytes()
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..64),
    ]
}

/// What a target may do with the header: mostly what the protocol allows.
#[derive(Clone, Debug)]
enum Header {
    Stay,
    MoveOn,
    Continue,
    Bytes([u8; 48]),
}

fn header() -> impl Strategy<Value = Header> {
    prop_oneof![
        4 => Just(Header::Stay),
        4 => Just(Header::MoveOn),
        2 => Just(Header::Continue),
        1 => any::<[[u8; 16]; 3]>()
            .prop_map(|bytes| Header::Bytes(bytes.concat().try_into().unwrap())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_target_is_survived_and_what_is_agreed_is_legal(
        chap in proptest::option::of(any::<bool>()),
        discovery in any::<bool>(),
        responses in proptest::collection::vec((header(), text()), 0..12),
    ) {
        let mut parameters = chap.map_or_else(parameters, with_chap);
        if discovery {
            parameters.session_type = SessionType::Discovery;
        }
        let mut t = Transcript::new(&parameters);
        // Played again and again, the responses must bring the login to an end.
        for round in 0.. {
            let Progress::Send(request, sent) = &t.progress else { break };
            prop_assert!(round <= RESPONSES_MAX);
            prop_assert!(sent.len() <= 8192);
            prop_assert!(!(request.continued && request.transit.is_some()));
            let (stage, transit) = (request.stage, request.transit);
            let mut response = t.response("0");
            response.stage = stage;
            let stay = (Header::Stay, Vec::new());
            let (header, text) = match responses.len() {
                0 => &stay,
                len => &responses[round as usize % len],
            };
            match header {
                Header::Stay => {}
                Header::MoveOn => response.transit = transit,
                Header::Continue => response.continued = true,
                Header::Bytes(bytes) => {
                    let mut bytes = *bytes;
                    bytes[0] = crate::wire::Opcode::LoginResponse as u8;
                    let Ok(parsed) = LoginResponse::parse(&crate::wire::Bhs(bytes)) else { break };
                    response = parsed;
                }
            }
            if response.transit == Some(Stage::FullFeature) {
                response.tsih = Tsih(1);
            }
            t.progress = t.login.handle_response(&response, text);
        }
        if let Progress::Done(negotiated) = &t.progress {
            let offer = Offer::default();
            prop_assert!((512..1 << 24).contains(&negotiated.max_send_data_segment_length));
            prop_assert!((512..=offer.max_burst_length).contains(&negotiated.max_burst_length));
            prop_assert!((512..=negotiated.max_burst_length).contains(&negotiated.first_burst_length));
            prop_assert!((1..=offer.max_outstanding_r2t).contains(&negotiated.max_outstanding_r2t));
            prop_assert_eq!(negotiated.error_recovery_level, 0);
            // Nobody gets past CHAP with the other side's proof missing.
            match chap {
                None => prop_assert_eq!(negotiated.authentication, Authentication::None),
                Some(false) => prop_assert!(matches!(negotiated.authentication, Authentication::Chap(_))),
                Some(true) => prop_assert!(false, "no such target knows the secret"),
            }
        }
        if let Progress::Failed(failure) = &t.progress {
                prop_assert!(!failure.explain(&parameters).to_string().is_empty());
            }
    }

    #[test]
    fn answers_in_the_standards_range_end_the_login(
        answers in proptest::collection::btree_map(
            proptest::sample::select(TABLE.iter().map(|spec| spec.name).collect::<Vec<_>>()), value(), 0..20),
        split in any::<proptest::sample::Index>(),
    ) {
        let text: Vec<u8> = answers
            .iter()
            .flat_map(|(key, value)| format!("{key}={value}\0").into_bytes())
            .collect();
        let mut t = Transcript::new(&parameters());
        t.target("0>1", &["AuthMethod=None"]);
        let (first, second) = text.split_at(split.index(text.len() + 1));
        t.target_bytes("1+", first);
        t.target_bytes("1", second);
        for _ in 0..4 {
            if matches!(t.progress, Progress::Send(..)) {
                let place = match &t.progress {
                    Progress::Send(request, _) if request.continued => "1",
                    _ => "1>3",
                };
                t.target(place, &[]);
            }
        }
        prop_assert!(!matches!(t.progress, Progress::Send(..)));
    }
}
