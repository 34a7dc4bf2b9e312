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
