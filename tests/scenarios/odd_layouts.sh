# Makes the systems of odd_layouts.rs in a guest with empty disks, with the real tools: those that are named.
set -e
rescue disks >/dev/null
export DM_DISABLE_UDEV=1
modprobe -a raid1 dm-crypt
printf secret >/tmp/k
mkdir -p /tmp/made
cd /tmp/made

# root NAME FSTAB: a small Linux in the folder NAME.
root() {
	mkdir -p "$1"/{etc,bin,proc,sys,dev,run,tmp,var/tmp,usr,home,srv}
	cp /bin/busybox "$1/bin/busybox"
	ln -sf busybox "$1/bin/sh"
	ln -sf busybox "$1/bin/cat"
	echo "$1" >"$1/etc/hostname"
	printf 'ID=debian\nPRETTY_NAME="Debian %s"\n' "$1" >"$1/etc/os-release"
	printf "$2" >"$1/etc/fstab"
}
ext4() {
	mke2fs -q -F -t ext4 -L "$2" -d "$1" "${@:3}"
}
luks() {
	cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 "$1" /tmp/k
	cryptsetup open --key-file /tmp/k "$1" "$2"
}
# group NAME DEVICE VOLUME:SIZE…
group() {
	pvcreate -q "$2"
	vgcreate -q "$1" "$2"
	for volume in "${@:3}"; do
		lvcreate -qq -y -Wn -Zn -L "${volume#*:}" -n "${volume%:*}" "$1"
	done
}

# LUKS in a logical volume, on a disk without partitions.
inside() {
	group vi /dev/vda safe:40M
	luks /dev/vi/safe safe
	root inside '/dev/mapper/safe / ext4 defaults 0 1\n'
	ext4 inside inside /dev/mapper/safe
	cryptsetup close safe
	vgchange -qq -an vi
}

# /usr is a volume, the swap holds a Linux that sleeps, and volumes are called by the order in which they were made.
asleep() {
	group va /dev/vdb root:24M usr:16M swap:16M home:8M
	root asleep '/dev/dm-0 / ext4\n/dev/dm-1 /usr ext4\n/dev/dm-2 none swap sw\n/dev/dm-3 /home ext4\n/dev/md127 /srv ext4\n'
	mkdir -p usr/share usr/lib
	mv asleep/bin usr/
	mv asleep/etc/os-release usr/lib/
	ln -s usr/bin asleep/bin
	ln -s ../usr/lib/os-release asleep/etc/os-release
	ext4 asleep asleep /dev/va/root
	ext4 usr usr /dev/va/usr
	mke2fs -q -F -t ext4 /dev/va/home
	mkswap /dev/va/swap >/dev/null
	printf 'S1SUSPEND\0' | dd of=/dev/va/swap bs=1 seek=4086 conv=notrunc status=none
	vgchange -qq -an va
}

# A host, and a guest's disk in one of its volumes.
host() {
	group vh /dev/vdc root:24M guest:48M
	root host '/dev/vh/root / ext4 defaults 0 1\n'
	: >host/etc/os-release
	ext4 host host /dev/vh/root
	root guest '/dev/vda1 / ext4 defaults 0 1\n'
	ext4 guest guest guest.img 24M
	printf 'label: gpt\nsize=24M\n' | sfdisk -q --no-reread --no-tell-kernel /dev/vh/guest
	dd if=guest.img of=/dev/vh/guest bs=1M seek=1 conv=notrunc status=none
	vgchange -qq -an vh
}

# A file system whose journal is on another device.
journal() {
	mke2fs -q -F -O journal_dev -b 1024 /dev/vde
	root journal 'LABEL=journal / ext4 defaults 0 1\n'
	ext4 journal journal -b 1024 -J device=/dev/vde /dev/vdd
}

# LUKS at the bottom, a mirror on two of them, a volume on that.
bottom() {
	luks /dev/vdf one
	luks /dev/vdg two
	mdadm -q --create /dev/md9 --run --assume-clean --level=1 --raid-devices=2 /dev/mapper/one /dev/mapper/two
	group vb /dev/md9 root:24M
	root bottom '/dev/vb/root / ext4 defaults 0 1\n'
	ext4 bottom bottom /dev/vb/root
	vgchange -qq -an vb
	mdadm -q --stop /dev/md9
	cryptsetup close one
	cryptsetup close two
}

for system in $SYSTEMS; do "$system"; done
sync
for disk in a b c d e f g; do blockdev --flushbufs "/dev/vd$disk"; done
