//! Kernels of one's own, out of Debian's packaged source and the fragments in `kernel-configs/`.

mod build;
pub(crate) mod fragment;
mod place;
mod reason;
mod signing;
mod source;

use anyhow::{Result, bail};

pub(crate) use build::{Wish, build};

/// A configuration: the fragments that make it.
struct Configuration {
    name: &'static str,
    about: &'static str,
    fragments: &'static [&'static str],
}

/// Each configuration that `imagebuilder kernel build --config` knows.
const CONFIGURATIONS: &[Configuration] = &[
    Configuration {
        name: "cloud",
        about: "guests; reaches SSH without a module",
        fragments: &[
            "required",
            "machine",
            "core",
            "security",
            "console",
            "virtio",
            "xen",
            "hyperv",
            "storage",
            "disks",
            "filesystems",
            "network",
            "speed",
        ],
    },
    Configuration {
        name: "server",
        about: "the same, and the drivers of real servers as modules",
        fragments: &[
            "required",
            "machine",
            "core",
            "security",
            "console",
            "virtio",
            "xen",
            "hyperv",
            "storage",
            "filesystems",
            "network",
            "speed",
            "server",
        ],
    },
];

/// The symbols of a configuration.
///
/// # Errors
/// An unknown name.
pub(crate) fn wanted(name: &str) -> Result<Vec<fragment::Wanted>> {
    build::wanted(configuration(name)?, &[])
}

fn configuration(name: &str) -> Result<&'static Configuration> {
    match CONFIGURATIONS.iter().find(|one| one.name == name) {
        Some(found) => Ok(found),
        None => {
            let there: Vec<String> =
                CONFIGURATIONS.iter().map(|one| format!("{} ({})", one.name, one.about)).collect();
            bail!("unknown kernel configuration {name:?}; there are: {}", there.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fragment_is_of_a_configuration_and_none_contradicts_another() {
        for one in CONFIGURATIONS {
            assert!(build::wanted(one, &[]).unwrap().len() > 150, "{}", one.name);
        }
        for (name, _) in fragment::FRAGMENTS {
            assert!(CONFIGURATIONS.iter().any(|one| one.fragments.contains(name)), "{name}");
        }
        let endless = build::wanted(&CONFIGURATIONS[0], &["/dev/zero".into()]).err().unwrap().to_string();
        assert_eq!(endless, "fragment /dev/zero: over 4 MiB");
        assert!(configuration("huge").err().unwrap().to_string().contains("cloud (guests"));
    }
}
