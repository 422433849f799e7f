//! The protocol crate and the whole data path (but for the ublk driver) against a real `tgtd` on loopback.
//!
//! `cargo lab test` names the program in `SANBLK_TGTD`; without it the lab is asked to unpack one.

mod client;
mod conformance;
mod keeper;
mod proxy;
mod queue;
mod tgtd;
mod volume;

use client::{Client, parameters};
use iscsi_client::login::{
    Authentication, Credentials, DigestPreference, LoginFailure, MutualCredentials, Offer,
};
use iscsi_client::session::Closed;
use tgtd::Tgtd;

/// Bytes that differ from block to block and from run to run.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes and reads back lengths on both sides of every limit that a login may set.
fn exercise(client: &mut Client) {
    let lens = [
        512,
        4096,
        8192,
        8704,
        65_536,
        66_048,
        262_144,
        262_656,
        1 << 20,
    ];
    for (index, len) in lens.into_iter().enumerate() {
        let lba = index as u64 * 4096 + 3;
        let data = pattern(lba, len);
        client.write(lba, &data);
        assert!(
            client.read(lba, len as u32) == data,
            "{len} bytes at {lba} differ"
        );
    }
    // The neighbours were not touched.
    assert!(client.read(0, 512).iter().all(|byte| *byte == 0));
    assert!(client.read(4, 512).iter().all(|byte| *byte == 0));
}

fn offer() -> Offer {
    Offer::default()
}

#[test]
fn data_move_under_every_combination_of_r2t_and_immediate_data() {
    for initial_r2t in ["Yes", "No"] {
        for immediate_data in ["Yes", "No"] {
            let target = Tgtd::start(&[
                ("InitialR2T", initial_r2t),
                ("ImmediateData", immediate_data),
            ]);
            let login = parameters(1, offer(), None);
            let mut client = Client::login(target.portals[0], login).expect("logs in");
            assert_eq!(client.negotiated().initial_r2t, initial_r2t == "Yes");
            assert_eq!(client.negotiated().immediate_data, immediate_data == "Yes");
            exercise(&mut client);
            client.logout();
        }
    }
}

#[test]
fn data_move_under_digests() {
    use DigestPreference::{PreferNone, RequireCrc32c};
    let value = |wanted| {
        if wanted == RequireCrc32c {
            "CRC32C"
        } else {
            "None"
        }
    };
    for (header, data) in [
        (RequireCrc32c, PreferNone),
        (PreferNone, RequireCrc32c),
        (RequireCrc32c, RequireCrc32c),
    ] {
        // tgt goes by its own order, not by ours: it must be told for each case.
        let target = Tgtd::start(&[("HeaderDigest", value(header)), ("DataDigest", value(data))]);
        let offer = Offer {
            header_digest: header,
            data_digest: data,
            ..offer()
        };
        let login = parameters(1, offer, None);
        let mut client = Client::login(target.portals[1], login).expect("logs in");
        assert_eq!(client.negotiated().header_digest, header == RequireCrc32c);
        assert_eq!(client.negotiated().data_digest, data == RequireCrc32c);
        exercise(&mut client);
        client.logout();
    }
}

#[test]
fn data_move_under_small_and_large_bursts() {
    let small = &[
        ("MaxBurstLength", "8192"),
        ("FirstBurstLength", "4096"),
        ("MaxRecvDataSegmentLength", "2048"),
        ("InitialR2T", "No"),
    ];
    let large = &[
        ("MaxBurstLength", "16776192"),
        ("FirstBurstLength", "262144"),
        ("MaxRecvDataSegmentLength", "262144"),
        ("MaxOutstandingR2T", "4"),
        ("InitialR2T", "No"),
    ];
    for (parameters_of_target, burst) in [(&small[..], 8192), (&large[..], 16_776_192)] {
        let target = Tgtd::start(parameters_of_target);
        let login = parameters(1, offer(), None);
        let client = Client::login(target.portals[0], login).expect("logs in");
        assert_eq!(client.negotiated().max_burst_length, burst);
        let mut client = client.staged_only();
        exercise(&mut client);
        client.logout();
    }
}

#[test]
fn both_portals_show_the_same_disk() {
    let target = Tgtd::start(&[]);
    let [one, two] = target.portals;
    let mut one = Client::login(one, parameters(1, offer(), None)).expect("logs in");
    let mut two = Client::login(two, parameters(2, offer(), None)).expect("logs in");
    let data = pattern(99, 131_072);
    one.write(77, &data);
    assert!(two.read(77, 131_072) == data);
    one.logout();
    two.logout();
}

#[test]
fn chap_one_way_and_mutual() {
    let target = Tgtd::start(&[]);
    target.incoming_account("us", "our secret of 96 bits");
    target.outgoing_account("them", "their secret, another");
    let credentials = |secret: &str, mutual: Option<&str>| {
        Some(Credentials {
            name: "us".into(),
            secret: secret.into(),
            mutual: mutual.map(|secret| MutualCredentials {
                name: Some("them".into()),
                secret: secret.into(),
            }),
            md5_only: false,
        })
    };
    let attempt =
        |credentials| Client::login(target.portals[0], parameters(1, offer(), credentials));

    let mut one_way = attempt(credentials("our secret of 96 bits", None)).expect("logs in");
    assert!(matches!(
        one_way.negotiated().authentication,
        Authentication::Chap(_)
    ));
    exercise(&mut one_way);
    one_way.logout();

    let ours = "our secret of 96 bits";
    let mutual = attempt(credentials(ours, Some("their secret, another"))).expect("logs in");
    assert!(matches!(
        mutual.negotiated().authentication,
        Authentication::MutualChap(_)
    ));
    mutual.logout();

    let why = |result: Result<Client, Closed>| match result {
        Err(Closed::Login(failure)) => failure,
        Err(other) => panic!("closed because of {other:?}"),
        Ok(_) => panic!("logged in"),
    };
    assert!(matches!(
        why(attempt(credentials("a wrong secret!!", None))),
        LoginFailure::Refused(_)
    ));
    assert!(matches!(
        why(attempt(credentials(ours, Some("not their secret")))),
        LoginFailure::TargetNotAuthenticated(_)
    ));
    // The target wants CHAP and we have no credentials.
    let refused = why(attempt(None));
    assert!(
        matches!(
            refused,
            LoginFailure::CredentialsNeeded | LoginFailure::Refused(_)
        ),
        "{refused:?}"
    );
}
