//! `ds=nocloud;h=NAME;i=ID;s=URL/`, on the kernel command line or as the serial number of the system in SMBIOS
//! (cloud-init, `doc/rtd/reference/datasources/nocloud.rst`).

/// What it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seed {
    /// Where the documents are: an address that `meta-data` and `user-data` are put behind.
    pub url: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Name of the machine.
    pub instance: Option<String>,
}

/// Reads it, with `ds=` before it or without; `None` for what is none.
#[must_use]
pub fn parse(text: &str) -> Option<Seed> {
    let mut fields = text.trim().strip_prefix("ds=").unwrap_or(text.trim()).split(';');
    if !matches!(fields.next(), Some("nocloud" | "nocloud-net")) {
        return None;
    }
    let mut seed = Seed::default();
    for (key, value) in fields.filter_map(|field| field.split_once('=')) {
        let place = match key {
            "s" | "seedfrom" => &mut seed.url,
            "h" | "local-hostname" => &mut seed.hostname,
            "i" | "instance-id" => &mut seed.instance,
            _ => continue,
        };
        *place = Some(value.into()).filter(|value: &String| !value.is_empty());
    }
    Some(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_fields_have_two_names_each() {
        let seed = parse("ds=nocloud;s=http://192.0.2.1/x/;h=db7;instance-id=i-1;x=y;z").unwrap();
        assert_eq!(seed.url.as_deref(), Some("http://192.0.2.1/x/"));
        assert_eq!((seed.hostname.as_deref(), seed.instance.as_deref()), (Some("db7"), Some("i-1")));
        assert_eq!(parse("nocloud-net;seedfrom=").unwrap(), Seed::default());
        assert_eq!((parse("ds=ec2"), parse("VMware-42 1d")), (None, None));
    }
}
