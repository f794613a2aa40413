# Makes the systems of odd_fstabs.rs in a guest with six empty disks, with the real tools.
set -e
rescue disks >/dev/null
modprobe vfat

# part DISK: a partition table, as its standard input says.
part() {
	sfdisk -q "/dev/$1"
	until [ -e "/dev/${1}1" ]; do sleep 0.1; done
}
# root FOLDER NAME: a small Linux.
root() {
	mkdir -p "$1"/{etc,bin,sbin,usr,boot,home,srv,var}
	echo "$2" >"$1/etc/hostname"
	printf 'ID=debian\nPRETTY_NAME="Debian %s"\n' "$2" >"$1/etc/os-release"
}
ext4() {
	mke2fs -q -F -t ext4 -L "$3" -d "$2" "/dev/$1"
}
esp() {
	mkfs.vfat -n ESP "/dev/$1" >/dev/null
	mkdir -p esp
	mount -t vfat "/dev/$1" esp
	mkdir -p esp/EFI/debian
	echo x >esp/EFI/debian/grubx64.efi
	umount esp
}

cd /tmp
mkdir -p boot/efi usr/bin usr/lib usr/share home
echo k >boot/vmlinuz-6.1
echo i >boot/initrd.img-6.1
printf 'ID=debian\nPRETTY_NAME="Debian of a separate usr"\n' >usr/lib/os-release
cp /bin/busybox usr/bin/sh
echo here >home/file

# Every name that a device can have; Windows' line ends; binds in a circle; names of the disk as it once was.
part vda <<-T
	label: gpt
	size=16M, name=root
	size=16M, name=usr
	size=8M, name="the boot"
	size=8M, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=7A5C11D3-0000-4000-8000-000000000001
	size=8M, name=home
	size=8M, name=srv
	size=8M
T
root old old
rm old/etc/os-release
mkdir -p old/boot/efi "old/my data" old/a old/b old/net old/opt
printf '%s\r\n' '# a comment' '' '/dev/sda1 / ext4 ro,errors=remount-ro 0 1' \
	'PARTLABEL=the\040boot /boot ext4 x-systemd.automount,x-systemd.idle-timeout=60 0 2' \
	'PARTUUID=7a5c11d3-0000-4000-8000-000000000001 /boot/efi vfat umask=0077 0 1' \
	'/dev/sda2 /usr ext4 x-systemd.growfs 0 2' \
	'/dev/disk/by-id/virtio-disk0-part5 /home ext4 nofail 0 2' \
	"/dev/disk/by-path/$SLOT-part6 /srv ext4 nofail,x-systemd.device-timeout=5s 0 2" \
	'LABEL="my\040data" /my\040data ext4 defaults' \
	'nas:/x /net nfs4 _netdev 0 0' 'LABEL=gone /opt ext4 nofail 0 2' 'LABEL=gone /net ext4 defaults 0 2' \
	'/a /b none bind 0 0' '/b /a none bind 0 0' 'tmpfs /tmp tmpfs 0 0' 'LABEL=home /mnt ext4 noauto 0 0' \
	'garbage' '/dev/sda1 /a/../../../etc ext4 0 0' >old/etc/fstab
ext4 vda1 old old
ext4 vda2 usr usr
ext4 vda3 boot boot
esp vda4
ext4 vda5 home home
ext4 vda6 home srv
ext4 vda7 home "my data"

# No fstab, and partitions that say by their types what they are for.
part vdb <<-T
	label: gpt
	size=16M, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
	size=16M, type=8484680C-9521-48C6-9C11-B0720656F69E
	size=8M, type=BC13C2FF-59E6-4262-A352-B275FD6F7172
	size=8M, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
	size=8M, type=933AC7E1-2EB4-4F13-B844-0E14E2AEF915
	size=8M, type=4D21B016-B534-45C2-A9FB-5C16E091FD2D
T
root types types
mkdir -p types/boot/efi
ext4 vdb1 types types
ext4 vdb2 usr usr2
ext4 vdb3 boot boot2
esp vdb4
ext4 vdb5 home home2
ext4 vdb6 home var2

# An empty one, and only what is on the partitions to go by.
part vdc <<-T
	label: dos
	size=16M, type=83
	size=8M, type=83
	size=16M, type=83
	size=8M, type=83
T
root contents contents
rm contents/etc/os-release
mkdir -p contents/boot/efi
: >contents/etc/fstab
ext4 vdc1 contents contents
ext4 vdc2 boot boot3
ext4 vdc3 usr usr3
esp vdc4

# Noise.
root noise noise
head -c 100000 /dev/urandom >noise/etc/fstab
ext4 vdd noise noise

# No regular file; a name and a host name that a terminal must not obey, nor a shell.
root fifo fifo
rm fifo/etc/hostname
mkfifo fifo/etc/fstab fifo/etc/crypttab
printf 'ID=\033[31mx\nPRETTY_NAME="\033]0;x\007Evil \033[2J $(reboot)"\n' >fifo/etc/os-release
printf '../../\033[2J;rm -rf /\n' >fifo/etc/hostname
ext4 vde fifo fifo

# Too long by far; links that lead out of the system, and /usr as a link within it.
root links links
truncate -s 1G links/etc/fstab
ln -s ../../../../../etc/passwd links/etc/crypttab
ln -s /proc/1/environ links/etc/machine-id
rm -r links/etc/os-release links/usr
mkdir -p links/home/lib
ln -s /home links/usr
printf 'ID=links\nPRETTY_NAME="By a link"\n' >links/home/lib/os-release
ln -s ../usr/lib/os-release links/etc/os-release
ln -s /../../../../../etc links/srv/out
ext4 vdf links links
sync
