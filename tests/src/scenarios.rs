//! The scenarios: one promise a file in `tests/scenarios/`, and one row here.
//!
//! To add one: write `tests/scenarios/<name>.rs` with a `pub(crate) fn run(lab: &Lab) -> Result<()>`
//! whose first doc line says the promise, and add its row to the list.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::image::workspace;
use crate::lab::Lab;

/// A promise that is kept.
pub struct Scenario {
    /// What `--only` takes: the name of its file.
    pub name: &'static str,
    /// Fails when the promise is broken.
    pub run: fn(&Lab<'_>) -> Result<()>,
}

/// The sources of the scenarios.
///
/// # Errors
/// When their folder cannot be read.
pub fn files() -> Result<Vec<PathBuf>> {
    let folder = workspace().join("tests/scenarios");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    Ok(files)
}

/// One row a scenario: its file, and its name in the list.
macro_rules! scenarios {
    ($($file:literal $name:ident;)*) => {
        $(#[path = $file] mod $name;)*

        /// Every scenario. The long ones come first, so that the last does not run alone for long.
        pub const SCENARIOS: &[Scenario] = &[$(Scenario { name: stringify!($name), run: $name::run }),*];
    };
}

scenarios! {
    "../scenarios/every_family.rs" every_family;
    "../scenarios/orphans_reaped.rs" orphans_reaped;
    "../scenarios/server_kernel.rs" server_kernel;
    "../scenarios/metadata_dialects.rs" metadata_dialects;
    "../scenarios/net_bonds.rs" net_bonds;
    "../scenarios/enter_debian.rs" enter_debian;
    "../scenarios/enter_uefi.rs" enter_uefi;
    "../scenarios/disks_dying.rs" disks_dying;
    "../scenarios/assemble_layers.rs" assemble_layers;
    "../scenarios/lvm_records.rs" lvm_records;
    "../scenarios/btrfs_pool.rs" btrfs_pool;
    "../scenarios/zfs_root.rs" zfs_root;
    "../scenarios/zfs_layouts.rs" zfs_layouts;
    "../scenarios/power_cut.rs" power_cut;
    "../scenarios/odd_fstabs.rs" odd_fstabs;
    "../scenarios/odd_layouts.rs" odd_layouts;
    "../scenarios/odd_roots.rs" odd_roots;
    "../scenarios/beacon.rs" beacon;
    "../scenarios/repair_fstab.rs" repair_fstab;
    "../scenarios/return_after.rs" return_after;
    "../scenarios/looking_changes_nothing.rs" looking_changes_nothing;
    "../scenarios/debian_boots.rs" debian_boots;
    "../scenarios/debian_broken.rs" debian_broken;
    "../scenarios/leave_by_command.rs" leave_by_command;
    "../scenarios/nobody_malformed_credentials.rs" nobody_malformed_credentials;
    "../scenarios/admin_login.rs" admin_login;
    "../scenarios/boot_ready.rs" boot_ready;
    "../scenarios/builder_bad_input.rs" builder_bad_input;
    "../scenarios/builder_no_space.rs" builder_no_space;
    "../scenarios/ctrl_alt_del.rs" ctrl_alt_del;
    "../scenarios/dhcp_late.rs" dhcp_late;
    "../scenarios/disk_hotplug.rs" disk_hotplug;
    "../scenarios/garbage_cmdline.rs" garbage_cmdline;
    "../scenarios/init_panics.rs" init_panics;
    "../scenarios/key_login.rs" key_login;
    "../scenarios/leave_by_signal.rs" leave_by_signal;
    "../scenarios/net_bond_lacp.rs" net_bond_lacp;
    "../scenarios/own_kernel.rs" own_kernel;
    "../scenarios/standard_tools.rs" standard_tools;
    "../scenarios/metadata.rs" metadata;
    "../scenarios/net_cmdline.rs" net_cmdline;
    "../scenarios/net_from_disk.rs" net_from_disk;
    "../scenarios/net_from_freebsd.rs" net_from_freebsd;
    "../scenarios/net_dhcp_comes_back.rs" net_dhcp_comes_back;
    "../scenarios/net_dhcp_lies.rs" net_dhcp_lies;
    "../scenarios/net_hotplug.rs" net_hotplug;
    "../scenarios/net_ladder_lacp.rs" net_ladder_lacp;
    "../scenarios/net_ra_flood.rs" net_ra_flood;
    "../scenarios/net_slaac.rs" net_slaac;
    "../scenarios/net_static_v6.rs" net_static_v6;
    "../scenarios/net_two_networks.rs" net_two_networks;
    "../scenarios/net_vlan_on_bond.rs" net_vlan_on_bond;
    "../scenarios/no_disks.rs" no_disks;
    "../scenarios/no_network.rs" no_network;
    "../scenarios/nobody_without_credentials.rs" nobody_without_credentials;
    "../scenarios/nobody_wrong_proof.rs" nobody_wrong_proof;
    "../scenarios/password_login.rs" password_login;
    "../scenarios/power_button.rs" power_button;
    "../scenarios/same_inputs_same_bytes.rs" same_inputs_same_bytes;
    "../scenarios/secrets_stay_secret.rs" secrets_stay_secret;
    "../scenarios/service_killed.rs" service_killed;
    "../scenarios/sources_disagree.rs" sources_disagree;
    "../scenarios/sources_refused.rs" sources_refused;
}
