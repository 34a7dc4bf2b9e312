//! The names under which the API may be called.

/// The `Host` allow-list (S-22).
#[derive(Debug, Clone, Default)]
pub enum Hosts {
    /// Every name: for a listener that only the operator reaches.
    #[default]
    Any,
    /// These names, without ports: `billing.example.com`, `127.0.0.1`, `::1`.
    Only(Vec<String>),
}

impl Hosts {
    pub(super) fn allow(&self, authority: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Only(names) => {
                let host = bare(authority);
                names.iter().any(|name| bare(name.as_bytes()).eq_ignore_ascii_case(host))
            }
        }
    }
}

/// A host without its port, and an IPv6 address without its brackets. What is not quite one of these stays as it is, and
/// so is no name in any list.
fn bare(authority: &[u8]) -> &[u8] {
    if authority.starts_with(b"[") {
        let end = authority.iter().position(|byte| *byte == b']').unwrap_or(0);
        let alone = end > 0 && matches!(authority.get(end + 1), None | Some(b':'));
        return if alone { &authority[1..end] } else { authority };
    }
    let mut parts = authority.split(|byte| *byte == b':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(host), Some(_port), None) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s22_hosts_are_compared_without_port_and_case() {
        let hosts = Hosts::Only(vec!["billing.example.com".to_owned(), "::1".to_owned(), "127.0.0.1".to_owned()]);
        for (authority, allowed) in [
            ("billing.example.com", true),
            ("Billing.Example.COM:8084", true),
            ("[::1]:8084", true),
            ("[::1]", true),
            ("127.0.0.1:1", true),
            ("evil", false),
            ("billing.example.com.evil", false),
            ("evil@billing.example.com", false),
            ("billing.example.com@evil", false),
            ("[::1].evil", false),
            ("", false),
            (":80", false),
        ] {
            assert_eq!(hosts.allow(authority.as_bytes()), allowed, "{authority}");
        }
    }
}
