# Pools as installers lay them out, on the disks vda and vdb: LAYOUT says which.
set -e
rescue disks >/dev/null; modprobe zfs; modprobe ext4; modprobe dm-mod
tree() { # a root's folders, and what it is called
    mkdir -p etc bin boot proc sys dev run tmp var/tmp; cp /bin/busybox bin/sh
    printf 'ID=%s\nPRETTY_NAME="%s"\n' "$2" "$3" >etc/os-release; echo "$1" >etc/hostname
}
parts() { # a disk with an ESP and room for two pools
    printf 'label: gpt\nsize=40M, type=uefi\nsize=72M\n,\n' | sfdisk -q "/dev/$1"
    until [ -e "/dev/${1}3" ]; do sleep 0.1; done
    mkfs.vfat -i 0badcafe "/dev/${1}1" >/dev/null 2>&1
}
made() { cd /; umount /tmp/g 2>/dev/null || true; for pool in $(zpool list -H -o name); do zpool export "$pool"; done; rm -rf /tmp/r; sync; }

# Ubuntu's: a pool for what GRUB reads, a state that was gone back to, so that of all there are two.
ubuntu() {
    parts vda
    zpool create -f -o cachefile=none -O mountpoint=/ -O canmount=off -R /tmp/r rpool /dev/vda3
    zpool create -f -o cachefile=none -d -o feature@extensible_dataset=enabled -O canmount=off -O mountpoint=/boot \
        -R /tmp/r bpool /dev/vda2
    for d in rpool/ROOT bpool/BOOT; do zfs create -o canmount=off -o mountpoint=none $d; done
    zfs create -o mountpoint=/ rpool/ROOT/ubuntu_old; zfs create -o mountpoint=/boot bpool/BOOT/ubuntu_old
    zfs create -o canmount=off rpool/ROOT/ubuntu_old/var; zfs create rpool/ROOT/ubuntu_old/var/lib
    zfs create -o canmount=off -o mountpoint=/ rpool/USERDATA
    zfs create -o mountpoint=/root -o com.ubuntu.zsys:bootfs-datasets=rpool/ROOT/ubuntu_old rpool/USERDATA/root_old
    cd /tmp/r; tree ub ubuntu "Ubuntu 22.04.4 LTS"; mkdir -p boot/efi boot/grub
    printf 'UUID=0BAD-CAFE /boot/efi vfat umask=0022 0 1\n/boot/efi/grub /boot/grub none defaults,bind 0 0\n' >etc/fstab
    mount -t vfat /dev/vda1 boot/efi; mkdir boot/efi/grub; echo cfg >boot/efi/grub/grub.cfg; umount boot/efi
    for f in state boot/state var/lib/state root/state; do echo old >$f; done
    for d in rpool/ROOT/ubuntu_old bpool/BOOT/ubuntu_old rpool/USERDATA/root_old; do zfs snapshot -r $d@autozsys; done
    cd /; zfs unmount -a
    copy() { zfs clone -o mountpoint="$2" "$1@autozsys" "${1%_old*}_new${1#*_old}"; zfs set canmount=noauto "$1"; }
    copy rpool/ROOT/ubuntu_old /; zfs create -o canmount=off rpool/ROOT/ubuntu_new/var; copy rpool/ROOT/ubuntu_old/var/lib /var/lib
    copy bpool/BOOT/ubuntu_old /boot; copy rpool/USERDATA/root_old /root
    zfs set com.ubuntu.zsys:bootfs-datasets=rpool/ROOT/ubuntu_new rpool/USERDATA/root_new
    zfs mount -a
    for f in state boot/state var/lib/state root/state; do echo new >/tmp/r/$f; done
}

# Proxmox VE's: guests' disks as volumes, one with a system, one with a volume group.
host() {
    parts vdb
    zpool create -f -o cachefile=none -m /rpool -R /tmp/r rpool /dev/vdb3
    zfs create rpool/ROOT; zfs create rpool/data; zfs create -o mountpoint=/var/lib/vz rpool/var-lib-vz
    zfs unmount -a; rm -rf /tmp/r/*; zfs create -o mountpoint=/ rpool/ROOT/pve-1; zfs mount -a || true
    zpool set bootfs=rpool/ROOT/pve-1 rpool
    zfs create -s -V 64M rpool/data/vm-100-disk-0; until [ -e /dev/zd0 ]; do sleep 0.1; done
    zfs create -s -V 32M rpool/data/vm-101-disk-0; until [ -e /dev/zd16 ]; do sleep 0.1; done
    printf 'label: gpt\n,\n' | sfdisk -q /dev/zd0; until [ -e /dev/zd0p1 ]; do sleep 0.1; done
    # It was made from a template that the host was made from, too.
    mkfs.ext4 -q -U 0badcafe-0000-4000-8000-000000000001 /dev/zd0p1; mkdir -p /tmp/g; mount /dev/zd0p1 /tmp/g
    cd /tmp/g; tree guest debian "Debian GNU/Linux 12 (bookworm)"; cd /
    pvcreate -q /dev/zd16 >/dev/null; vgcreate -q ubuntu-vg /dev/zd16 >/dev/null
    lvcreate -q -an -Zn -Wn -L 8M -n root ubuntu-vg >/dev/null 2>&1
    cd /tmp/r; tree pve1 debian "Debian GNU/Linux 12 (bookworm)"; echo iso >var/lib/vz/state
    echo 'UUID=0badcafe-0000-4000-8000-000000000001 /mnt/gone ext4 nofail 0 2' >etc/fstab
}

# As OpenZFS's guide has it, encrypted; another dataset with a raw key that ends as a line does.
encrypted() {
    parts vda
    echo secret12 | zpool create -f -o cachefile=none -O encryption=on -O keylocation=prompt -O keyformat=passphrase \
        -O canmount=off -O mountpoint=/ -R /tmp/r rpool /dev/vda3
    zfs create -o canmount=off -o mountpoint=none rpool/ROOT
    zfs create -o canmount=noauto -o mountpoint=/ rpool/ROOT/debian; zfs mount rpool/ROOT/debian; zfs create rpool/home
    printf '0123456789012345678901234567890\n' >/tmp/raw
    zfs create -o encryption=on -o keyformat=raw -o keylocation=file:///tmp/raw rpool/srv
    cd /tmp/r; tree enc debian "Debian GNU/Linux 12 (bookworm)"; echo kept >home/state; echo raw >srv/state
    printf '/dev/disk/by-uuid/0BAD-CAFE /boot/efi vfat defaults 0 0\n/dev/zvol/rpool/swap none swap discard 0 0\n' >etc/fstab
    mkdir -p boot/efi
}

# Nothing is left of the one before.
for part in /dev/vd[ab][23]; do [ ! -e "$part" ] || zpool labelclear -f "$part" 2>/dev/null || true; done
wipefs -qa /dev/vda /dev/vdb; blockdev --rereadpt /dev/vda; blockdev --rereadpt /dev/vdb
"$LAYOUT"; made
