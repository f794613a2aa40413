//! What says that a metadata service may be there: the firmware, a route by DHCP, the kernel command line.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::{DIALECTS, Dialect, WELL_KNOWN};
use crate::creds::nocloud;
use crate::sys::cmdline::Cmdline;
use crate::sys::files::read_capped;

/// What is no service but a call to the host, which is asked elsewhere.
pub const VMWARE: &str = "vmware";
/// What is asked by HTTPS, and elsewhere as well.
pub const SOFTLAYER: &str = "softlayer";
/// Longest text of the firmware that is read, and longest table of routes, in bytes.
const MAX_TEXT: usize = 4096;
const MAX_ROUTES: usize = 1 << 20;
/// Longest address on the command line.
const MAX_URL: usize = 2048;

/// What the firmware says of the machine, a file each in `/sys/class/dmi/id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Who made it.
    Vendor,
    /// What it is called.
    Product,
    /// Its serial number.
    Serial,
    /// What is stuck on its chassis.
    AssetTag,
    /// Who made its firmware.
    BiosVendor,
}

impl Field {
    fn file(self) -> &'static str {
        match self {
            Self::Vendor => "sys_vendor",
            Self::Product => "product_name",
            Self::Serial => "product_serial",
            Self::AssetTag => "chassis_asset_tag",
            Self::BiosVendor => "bios_vendor",
        }
    }
}

/// A text by which a platform is known, whole, or up to a `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub Field, pub &'static str);

/// What was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    firmware: Vec<(&'static str, String)>,
    /// Values of `rescue.metadata=` and of `ds=`, in this order.
    ours: Vec<String>,
    theirs: Vec<String>,
    uuid: String,
}

/// What is to be asked.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// These, whatever the network says.
    pub dialects: Vec<&'static Dialect>,
    /// Those that a route by DHCP tells of as well.
    pub by_route: bool,
    /// Where, instead of where each of them is by itself.
    pub at: Option<Url>,
    /// What on the command line is not understood.
    pub remarks: Vec<String>,
}

/// A plain HTTP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whom to ask.
    pub address: SocketAddr,
    /// What every path begins with; no slash at its end.
    pub base: String,
}

impl Hints {
    /// Looks, with `root` in the place of `/`.
    #[must_use]
    pub fn observe(root: &Path, line: &Cmdline) -> Self {
        let folder = root.join("sys/class/dmi/id");
        let text = |file: &str| {
            let bytes = read_capped(&folder.join(file), MAX_TEXT).unwrap_or_default();
            String::from_utf8_lossy(&bytes).trim().to_string()
        };
        let fields = [Field::Vendor, Field::Product, Field::Serial, Field::AssetTag, Field::BiosVendor];
        let all = |names: &[&str]| {
            names.iter().flat_map(|name| line.all(name).map(String::from).collect::<Vec<_>>()).collect()
        };
        Self {
            firmware: fields.into_iter().map(|field| (field.file(), text(field.file()))).collect(),
            ours: all(&["rescue.metadata"]),
            theirs: all(&["ds", "ci.ds", "ci.datasource"]),
            uuid: text("product_uuid"),
        }
    }

    fn says(&self, mark: &Mark) -> bool {
        let text = self.firmware.iter().find(|(file, _)| *file == mark.0.file()).map_or("", |(_, text)| text);
        match mark.1.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => text == mark.1,
        }
    }

    /// Of all that is said, what is to be asked: what `rescue.metadata=` says, or else what `ds=` does, or
    /// else what the firmware does.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        let by_firmware = |wanted: &mut Wanted| {
            wanted.dialects = DIALECTS.iter().filter(|d| d.marks.iter().any(|m| self.says(m))).collect();
            wanted.by_route = wanted.dialects.is_empty();
        };
        let words: Vec<&str> = self.ours.iter().flat_map(|value| value.split(',')).collect();
        if words.contains(&"off") {
            return wanted;
        }
        for word in words {
            if [VMWARE, SOFTLAYER].contains(&word) {
                continue;
            }
            if let Some(dialect) = named(word) {
                wanted.dialects.push(dialect);
            } else if word.contains("://") {
                match url(word) {
                    Ok(url) => wanted.at = Some(url),
                    Err(why) => wanted.remarks.push(format!("rescue.metadata=: {why}")),
                }
            } else {
                let known: Vec<&str> = DIALECTS.iter().map(|d| d.name).collect();
                wanted
                    .remarks
                    .push(format!("rescue.metadata=: off, an http:// address, or of {}", known.join(", ")));
            }
        }
        if wanted.dialects.is_empty() && wanted.at.is_some() {
            by_firmware(&mut wanted);
            wanted.by_route = false;
            if wanted.dialects.is_empty() {
                // Whoever answers there may speak either, and NoCloud is a folder of files.
                wanted.dialects = DIALECTS.iter().filter(|d| d.by_route || d.addresses.is_empty()).collect();
            }
        }
        if !wanted.dialects.is_empty() || !self.ours.is_empty() {
            return wanted;
        }
        let serial =
            self.firmware.iter().filter(|(file, _)| *file == Field::Serial.file()).map(|(_, text)| text);
        for value in self.theirs.iter().chain(serial.filter(|text| text.starts_with("ds="))) {
            if let Some(seed) = nocloud::parse(value) {
                let Some(text) = seed.url else { continue };
                match url(&self.expand(&text)) {
                    Ok(url) => {
                        wanted.dialects.extend(named("nocloud"));
                        wanted.at = Some(url);
                    }
                    Err(why) => wanted.remarks.push(format!("ds=nocloud: {why}")),
                }
            } else if let Some(dialect) = value.split(';').next().and_then(|name| named(&name.to_lowercase()))
            {
                wanted.dialects.push(dialect);
            }
            if !wanted.dialects.is_empty() {
                return wanted;
            }
        }
        by_firmware(&mut wanted);
        wanted
    }

    /// `__dmi.NAME__` in an address (cloud-init, `doc/rtd/reference/datasources/nocloud.rst`).
    fn expand(&self, url: &str) -> String {
        let of =
            |file: &str| self.firmware.iter().find(|(known, _)| *known == file).map_or("", |(_, text)| text);
        url.replace("__dmi.system-uuid__", &self.uuid)
            .replace("__dmi.system-serial-number__", of("product_serial"))
            .replace("__dmi.system-product-name__", of("product_name"))
            .replace("__dmi.chassis-asset-tag__", of("chassis_asset_tag"))
    }
}

fn named(word: &str) -> Option<&'static Dialect> {
    DIALECTS.iter().find(|d| d.name == word)
}

/// An address whose host is one: what a name stands for, nobody has vouched for.
fn url(text: &str) -> Result<Url, String> {
    let Some(rest) = text.strip_prefix("http://") else {
        return Err("an http:// address is asked, no other".into());
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if text.len() > MAX_URL || !path.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("an address that is none".into());
    }
    let address = host.parse::<SocketAddr>().ok().or_else(|| {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 80))
    });
    let address = address.ok_or("the host must be an address: 192.0.2.1, [2001:db8::1]:8080")?;
    Ok(Url { address, base: path.trim_end_matches('/').into() })
}

/// What of the table in `/proc/net/route` concerns this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes(Vec<(u32, u32)>);

impl Routes {
    /// Looks, with `root` in the place of `/`.
    #[must_use]
    pub fn observe(root: &Path) -> Self {
        Self::parse(&read_capped(&root.join("proc/net/route"), MAX_ROUTES).unwrap_or_default())
    }

    /// Reads the table: numbers as the processor has them, network order in memory.
    #[must_use]
    pub fn parse(table: &[u8]) -> Self {
        let table = String::from_utf8_lossy(table);
        let number = |word: Option<&&str>| {
            u32::from_str_radix(word?, 16).ok().map(|n| u32::from_be_bytes(n.to_ne_bytes()))
        };
        let routes = table.lines().skip(1).filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            Some((number(words.get(1))?, number(words.get(7))?))
        });
        Self(routes.collect())
    }

    /// Whether one leads there, be it the default route.
    #[must_use]
    pub fn lead_to(&self, address: IpAddr) -> bool {
        let IpAddr::V4(address) = address else { return false };
        self.0.iter().any(|(to, mask)| address.to_bits() & mask == *to)
    }

    /// Whether one leads to the address of metadata services alone: DHCP has given it.
    #[must_use]
    pub fn tell(&self) -> bool {
        let IpAddr::V4(address) = WELL_KNOWN else { return false };
        self.0.contains(&(address.to_bits(), u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(files: &[(&str, &str)], line: &str) -> Wanted {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/class/dmi/id");
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), format!("{text}\n")).unwrap());
        Hints::observe(root.path(), &Cmdline::parse(line.as_bytes())).wanted()
    }

    fn names(wanted: &Wanted) -> Vec<&str> {
        wanted.dialects.iter().map(|d| d.name).collect()
    }

    #[test]
    fn the_firmware_tells_the_platform() {
        for (file, text, name) in [
            ("sys_vendor", "Amazon EC2", "ec2"),
            ("product_name", "OpenStack Nova", "openstack"),
            ("chassis_asset_tag", "HUAWEICLOUD", "openstack"),
            ("product_name", "Google Compute Engine", "gce"),
            ("product_serial", "GoogleCloud-0123", "gce"),
            ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "azure"),
            ("chassis_asset_tag", "OracleCloud.com", "oracle"),
            ("sys_vendor", "DigitalOcean", "digitalocean"),
            ("sys_vendor", "Hetzner", "hetzner"),
            ("sys_vendor", "Scaleway", "scaleway"),
        ] {
            let wanted = hints(&[(file, text)], "quiet");
            assert_eq!((names(&wanted), wanted.by_route), (vec![name], false), "{text}");
            assert!(names(&hints(&[(file, text)], "rescue.metadata=off")).is_empty());
            assert_eq!(names(&hints(&[(file, text)], "rescue.metadata=hetzner")), ["hetzner"]);
        }
    }

    #[test]
    fn any_other_machine_asks_nobody_unless_dhcp_says_so() {
        let wanted = hints(&[("sys_vendor", "Dell Inc."), ("product_name", "PowerEdge R640")], "");
        assert!(wanted.dialects.is_empty() && wanted.by_route);
        let off = hints(&[], "rescue.metadata=off");
        assert!(off.dialects.is_empty() && !off.by_route);
        let unknown = hints(&[("sys_vendor", "Amazon EC2")], "rescue.metadata=ec3");
        assert!(unknown.dialects.is_empty() && !unknown.by_route && unknown.remarks.len() == 1);
    }

    #[test]
    fn the_command_line_names_it() {
        assert_eq!(names(&hints(&[], "ds=Ec2")), ["ec2"]);
        assert_eq!(names(&hints(&[], "ds=openstack;x=y")), ["openstack"]);
        assert_eq!(names(&hints(&[("sys_vendor", "Dell Inc.")], "rescue.metadata=equinix")), ["equinix"]);
        let both = hints(&[], "rescue.metadata=openstack,ec2,http://[2001:db8::1]:8080/cloud/");
        assert_eq!(names(&both), ["openstack", "ec2"]);
        let at = both.at.unwrap();
        assert_eq!((at.address.to_string().as_str(), at.base.as_str()), ("[2001:db8::1]:8080", "/cloud"));
        assert_eq!(names(&hints(&[], "rescue.metadata=http://192.0.2.1")), ["openstack", "ec2", "nocloud"]);
        for bad in
            ["https://192.0.2.1/", "http://metadata.example/", "http://192.0.2.1:99999/", "ftp://1.2.3.4"]
        {
            let wanted = hints(&[("sys_vendor", "Hetzner")], &format!("rescue.metadata={bad}"));
            assert!(wanted.at.is_none() && wanted.dialects.is_empty() && wanted.remarks.len() == 1, "{bad}");
        }
    }

    #[test]
    fn nocloud_has_an_address_of_its_own() {
        let files = [
            ("product_uuid", "4c4c4544-0042"),
            ("product_serial", "ds=nocloud;s=http://192.0.2.1/__dmi.system-uuid__/"),
        ];
        for wanted in
            [hints(&files, ""), hints(&files[..1], "ds=nocloud;s=http://192.0.2.1/__dmi.system-uuid__/")]
        {
            assert_eq!(names(&wanted), ["nocloud"]);
            assert_eq!(wanted.at.unwrap().base, "/4c4c4544-0042");
        }
        // A medium has it.
        assert!(names(&hints(&[], "ds=nocloud;h=db7")).is_empty());
    }

    #[test]
    fn routes_are_read() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\tFEA9FEA9\t0200000A\t0007\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n\
            eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let routes = Routes::parse(table.as_bytes());
        assert!(routes.tell() && routes.lead_to("192.0.2.1".parse().unwrap()));
        let routes = Routes::parse(table.lines().take(2).collect::<Vec<_>>().join("\n").as_bytes());
        assert!(!routes.tell() && routes.lead_to(WELL_KNOWN));
        let local = Routes(vec![(0x0a00_0000, 0xffff_ff00)]);
        assert!(!local.lead_to(WELL_KNOWN) && local.lead_to("10.0.0.9".parse().unwrap()));
        assert_eq!(Routes::parse(b"junk\nx y z\n\xff"), Routes::default());
    }
}
