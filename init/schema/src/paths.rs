//! Where things lie in the image and on the running rescue. One list, because the builder, PID 1,
//! its services and the tests must agree.

/// The injected document, from the appended cpio (mode 0600); removed once read.
pub const DEVICE_DOCUMENT: &str = "/etc/rescue/device.json";
/// Random bytes from the machine that made the appended cpio (mode 0600); removed once read.
pub const RANDOM_SEED: &str = "/etc/rescue/seed";
/// What image this is: [`crate::manifest::ImageInfo`], written by the builder.
pub const IMAGE_INFO: &str = "/etc/rescue/image.json";
/// Runtime state of this boot. On a tmpfs, mode 0755; secrets inside have their own 0600.
pub const RUN: &str = "/run/rescue";
/// The boot log that `rescue log` reads, bounded by rotation to [`LOG_OLD`].
pub const LOG: &str = "/run/rescue/log";
/// The older half of the log.
pub const LOG_OLD: &str = "/run/rescue/log.old";
/// Where the image has programs that are packed, by their own paths, with `.zst` behind: a link to the rescue
/// stands in the place of each until it is called.
pub const PACKED_PROGRAMS: &str = "/usr/lib/rescue/packed";
/// Which libraries are packed as well, by the program that needs them: JSON, of lists of paths by path. They are
/// unpacked with it.
pub const PACKED_LIBRARIES: &str = "/usr/lib/rescue/packed/libraries.json";
/// The program that speaks HTTPS; an image may be without it.
pub const HTTPS_PROGRAM: &str = "/usr/lib/rescue/rescue-https";
/// PID 1's socket (`SOCK_DGRAM`, root only): what its services report, and the order to go down.
pub const NOTIFY: &str = "/run/rescue/notify";
/// The state of this boot as PID 1 knows it: [`crate::report::BootReport`].
pub const BOOT_REPORT: &str = "/run/rescue/boot.json";
/// There once what is not needed for a login may begin: empty.
pub const LATER: &str = "/run/rescue/later";
/// The state of the network as `netd` knows it: [`crate::report::NetReport`].
pub const NET_REPORT: &str = "/run/rescue/net.json";
/// Failed logins per source, shared by the SSH server and the consoles (0600).
pub const THROTTLE: &str = "/run/rescue/throttle";
/// The folder of SSH host keys, 0700; files are named as OpenSSH names them.
pub const HOST_KEYS: &str = "/etc/ssh";
/// The `ssh` section of the injected document without its secrets, for `sshd`.
pub const SSH_WISHES: &str = "/run/rescue/ssh.json";
/// The folder of who is in over SSH (0700): a [`crate::report::WhoReport`] a connection.
pub const CONNECTIONS: &str = "/run/rescue/connections";
/// Where `rescue mount` puts the rescued systems.
pub const MOUNT_ROOT: &str = "/mnt";
/// The `network` section of the injected document, for `netd` (0600).
pub const NETWORK_WISHES: &str = "/run/rescue/network.json";
/// The network that netd goes by, wherever it was said, and which `rescue net` corrects (mode 0600).
pub const NETWORK_IN_FORCE: &str = "/run/rescue/network-in-force.json";
/// `netd`'s socket (`SOCK_DGRAM`, root only), by which `rescue net` has it read its wishes again.
pub const NET_CONTROL: &str = "/run/rescue/netd";
/// What `netd` made of a network of which nothing was said, for its next run.
pub const NETWORK_LADDER: &str = "/run/rescue/ladder.json";
/// What `rescue sources` has found beyond the appended cpio (mode 0600); PID 1 removes it once read.
pub const SOURCES_FOUND: &str = "/run/rescue/sources-found.json";
/// The network that was chosen of all that was said, beside the one in force: the two differ once an
/// engineer has corrected it (mode 0600).
pub const NETWORK_CHOSEN: &str = "/run/rescue/network-chosen.json";
/// `session.beacon` of the injected document, for `rescue beacon` (0600).
pub const BEACON_WISHES: &str = "/run/rescue/beacon.json";
