//! Key=value text (RFC 7143, 6.1 and 6.2) and SendTargets (appendix C).

use super::config::TargetConfig;

/// Pairs of a text, in order; `None` if it is not well formed.
pub(super) fn pairs(text: &[u8]) -> Option<Vec<(String, String)>> {
    let Some(body) = text.strip_suffix(b"\0") else {
        return text.is_empty().then(Vec::new);
    };
    body.split(|byte| *byte == 0)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            let (key, value) = pair.split_once('=')?;
            (!key.is_empty() && key.len() <= 63).then(|| (key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// The text of these pairs.
pub(super) fn encode(pairs: &[(String, String)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in pairs {
        text.extend(key.bytes());
        text.push(b'=');
        text.extend(value.bytes());
        text.push(0);
    }
    text
}

/// The answer to a text request in full feature phase.
pub(super) fn answer(config: &TargetConfig, request: &[u8], discovery: bool) -> Option<Vec<u8>> {
    let mut answers = Vec::new();
    for (key, value) in pairs(request)? {
        match key.as_str() {
            "SendTargets" => {
                let all = value == "All" && discovery;
                if all || value.is_empty() || value == config.name {
                    answers.push(("TargetName".to_owned(), config.name.clone()));
                    answers.extend(config.portals.iter().map(|portal| {
                        let address = format!("{},{}", portal.address, portal.group.0);
                        ("TargetAddress".to_owned(), address)
                    }));
                } else if value == "All" {
                    answers.push((key, "Reject".into()));
                }
            }
            _ => answers.push((key, "NotUnderstood".into())),
        }
    }
    Some(encode(&answers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back() {
        let text = b"A=1\0B=\0C=x=y\0";
        let pairs = pairs(text).expect("well formed");
        assert_eq!(pairs[2], ("C".into(), "x=y".into()));
        assert_eq!(encode(&pairs), text);
        assert!(super::pairs(b"A=1").is_none(), "no NUL at the end");
        assert!(super::pairs(b"A\0").is_none(), "no value");
    }
}
