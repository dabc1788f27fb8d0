/// Checks `scheme://host:port`, where `schemes` are allowed, the port may be left out, and IPv6
/// addresses stand in brackets. Returns what follows the authority.
///
/// # Errors
///
/// When it is not of that form, of another scheme, or has credentials.
pub fn check_address<'a>(text: &'a str, schemes: &[&str]) -> Result<&'a str, InvalidAddress> {
    let (scheme, rest) = text.split_once("://").ok_or(InvalidAddress::Form)?;
    if !schemes.contains(&scheme) {
        let allowed = schemes.join("`, `");
        return Err(InvalidAddress::Scheme { allowed });
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(InvalidAddress::Credentials);
    }
    check_authority(authority)?;
    Ok(path)
}

fn check_authority(authority: &str) -> Result<(), InvalidAddress> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || !port.is_none_or(is_port) {
        return Err(InvalidAddress::Form);
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match in_brackets {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.chars().all(is_name),
    };
    if valid { Ok(()) } else { Err(InvalidAddress::Form) }
}

/// Why a text is no address.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidAddress {
    #[error("expected `scheme://host:port`")]
    Form,
    #[error("the scheme must be `{allowed}`")]
    Scheme { allowed: String },
    #[error("credentials do not belong in an address, where logs would show them: use their keys")]
    Credentials,
    #[error("nothing may follow the port")]
    Path,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_paths_are_told_apart() {
        for (text, path) in [
            ("redis://127.0.0.1:6379", ""),
            ("redis://[::1]:6379/3", "/3"),
            ("redis://[::1]", ""),
            ("redis://redis-0.redis.svc", ""),
        ] {
            assert_eq!(check_address(text, &["redis"]), Ok(path), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "localhost:6379",
            "redis://",
            "redis://:6379",
            "redis://host:",
            "redis://host:0",
            "redis://host:70000",
            "redis://::1:6379",
            "redis://[nonsense]:1",
            "redis://a b",
        ] {
            assert_eq!(check_address(text, &["redis"]), Err(InvalidAddress::Form), "{text}");
        }
        assert_eq!(check_address("redis://u:p@host", &["redis"]), Err(InvalidAddress::Credentials));
        let allowed = "redis`, `rediss".to_owned();
        assert_eq!(
            check_address("http://host", &["redis", "rediss"]),
            Err(InvalidAddress::Scheme { allowed })
        );
    }
}
