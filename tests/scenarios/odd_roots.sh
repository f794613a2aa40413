# Makes the systems of odd_roots.rs in a guest with empty disks, as their installers lay them out.
set -e
rescue disks >/dev/null
export DM_DISABLE_UDEV=1
modprobe -a btrfs xfs ext4 vfat dm-snapshot
mkdir -p /tmp/made /tmp/t
cd /tmp/made

# root FOLDER NAME: a small Linux.
root() {
	mkdir -p "$1"/{etc,bin,proc,sys,dev,run,tmp,var/tmp,home,usr/lib}
	cp /bin/busybox "$1/bin/busybox"
	ln -s busybox "$1/bin/sh"
	ln -s busybox "$1/bin/cat"
	echo "$2" >"$1/etc/hostname"
	printf 'ID=%s\nPRETTY_NAME="%s Linux"\n' "$2" "$2" >"$1/usr/lib/os-release"
	ln -s ../usr/lib/os-release "$1/etc/os-release"
}
subvolume() {
	btrfs -q subvolume create "$1"
}
boots_from() {
	btrfs subvolume set-default "$(btrfs subvolume show "$1" | awk '/Subvolume ID/{print $3}')" /tmp/t
}

# openSUSE: the root is a snapshot, and by no subvol= of its fstab.
id=22222222-2222-4222-8222-222222222222
mkfs.btrfs -q -U $id /dev/vda
mount -t btrfs /dev/vda /tmp/t
subvolume /tmp/t/@
for name in var .snapshots; do subvolume "/tmp/t/@/$name"; done
mkdir /tmp/t/@/.snapshots/{1,2}
subvolume /tmp/t/@/.snapshots/1/snapshot
root /tmp/t/@/.snapshots/1/snapshot suse
printf "UUID=$id / btrfs defaults 0 0\nUUID=$id /var btrfs subvol=/@/var 0 0\n" >/tmp/t/@/.snapshots/1/snapshot/etc/fstab
echo variable >/tmp/t/@/var/file
boots_from /tmp/t/@/.snapshots/1/snapshot
btrfs -q subvolume snapshot -r /tmp/t/@/.snapshots/1/snapshot /tmp/t/@/.snapshots/2/snapshot
umount /tmp/t

# Fedora: a /boot with entries (BLS), and an empty folder for the ESP.
printf 'label: gpt\nsize=20M,type=U\nsize=40M\ntype=L\n' | sfdisk -q /dev/vdb
mkdir -p boot/{loader/entries,grub2,efi}
for file in vmlinuz-6.5 initramfs-6.5.img grub2/grub.cfg loader/entries/a.conf; do echo x >"boot/$file"; done
mke2fs -q -t ext4 -L fedboot -d boot /dev/vdb2
mkfs.btrfs -q -L fed /dev/vdb3
mount -t btrfs /dev/vdb3 /tmp/t
subvolume /tmp/t/root
subvolume /tmp/t/home
root /tmp/t/root fed
mkdir /tmp/t/root/boot
printf 'LABEL=fed / btrfs subvol=root\nLABEL=fedboot /boot ext4\nLABEL=fed /home btrfs subvol=home\n' >/tmp/t/root/etc/fstab
umount /tmp/t

# An XFS whose log is on another disk; NixOS, whose files are links into its store.
printf 'label: gpt\nsize=100M\ntype=L\n' | sfdisk -q /dev/vdd
mkfs.xfs -q -l logdev=/dev/vdd1 /dev/vdc
mount -t xfs -o logdev=/dev/vdd1 /dev/vdc /tmp/t
root /tmp/t xlog
echo '/dev/vdc / xfs logdev=/dev/vdd1 0 0' >/tmp/t/etc/fstab
umount /tmp/t
root nix nix
mkdir -p nix/nix/store/{etc,sw} nix/nix/var/nix/{db,profiles}
mv nix/bin nix/nix/store/sw/bin
mkdir nix/bin
ln -s /nix/store/sw/bin/sh nix/bin/sh
mkdir nix/nix/store/system
ln -s /nix/store/sw nix/nix/store/system/sw
ln -s /nix/store/system nix/nix/var/nix/profiles/system
mv nix/etc/hostname nix/nix/store/etc/
mv nix/usr/lib/os-release nix/nix/store/etc/
ln -s /nix/store/etc nix/etc/static
for file in hostname os-release; do ln -sf "/etc/static/$file" "nix/etc/$file"; done
mke2fs -q -t ext4 -d nix /dev/vdd2

# A root with a snapshot beside it.
pvcreate -q /dev/vde
vgcreate -q vs /dev/vde
lvcreate -qq -y -Wn -Zn -L 48M -n root vs
root shot shot
echo '/dev/vs/root / ext4 defaults 0 1' >shot/etc/fstab
mke2fs -q -t ext4 -d shot /dev/vs/root
lvcreate -qq -y -s -L 12M -n before vs/root 2>/dev/null
mount -t ext4 /dev/vs/root /tmp/t
echo since >/tmp/t/since
umount /tmp/t
vgchange -qq -an vs

# systemd-boot, with an ESP at /efi and a FAT /boot (XBOOTLDR), and a fstab that names nothing.
printf 'label: gpt\nsize=20M,type=U\nsize=40M,type=BC13C2FF-59E6-4262-A352-B275FD6F7172\ntype=L\n' | sfdisk -q /dev/vdf
fat() {
	mkfs.vfat "$1" >/dev/null 2>&1
	mount -t vfat "$1" /tmp/t
	for file in "${@:2}"; do
		mkdir -p "/tmp/t/${file%/*}"
		echo x >"/tmp/t/$file"
	done
	umount /tmp/t
}
fat /dev/vdf1 EFI/systemd/systemd-bootx64.efi loader/loader.conf
fat /dev/vdf2 ./vmlinuz-linux loader/entries/arch.conf EFI/Linux/arch.efi
root arch arch
mkdir arch/{efi,boot}
echo '# by their types' >arch/etc/fstab
mke2fs -q -t ext4 -d arch /dev/vdf3

# CoreOS: its root is a folder that ostree has deployed.
root core/ostree/deploy/fedora/deploy/0123.0 core
mkdir -p core/boot core/ostree/repo
mke2fs -q -t ext4 -d core /dev/vdg

sync
for disk in a b c d e f g; do blockdev --flushbufs "/dev/vd$disk"; done
