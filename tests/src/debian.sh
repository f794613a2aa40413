# Makes a small Debian tree into the server `db7`. Called by mmdebstrap with the tree as $1, as the
# (real or mapped) root of it; PASSWORD_HASH, ROOT_UUID, FSTAB are in the environment.
set -eu
root=$1

echo db7 >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\tdb7\n' >"$root/etc/hosts"
printf '%s' "$FSTAB" >"$root/etc/fstab"
mkdir -p "$root/boot/efi" "$root/boot/grub" "$root/srv"
sed -i "s#^root:[^:]*:#root:$PASSWORD_HASH:#" "$root/etc/shadow"

# What a database server of this size has to lose.
mkdir -p "$root/srv/db"
echo 'the data that must survive' >"$root/srv/db/table"

cat >"$root/boot/grub/grub.cfg" <<EOF
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=0
menuentry 'Debian GNU/Linux' {
	search --no-floppy --fs-uuid --set=root $ROOT_UUID
	linux /vmlinuz root=UUID=$ROOT_UUID ro console=ttyS0 loglevel=4 systemd.show_status=true
	initrd /initrd.img
}
EOF

# An initrd for this machine alone: it is read by the firmware's own disk driver, which is slow.
sed -i 's/^MODULES=.*/MODULES=list/' "$root/etc/initramfs-tools/initramfs.conf"
printf '%s\n' virtio_pci virtio_blk ext4 >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u >/dev/null

# Nothing that a first boot would do in the background, while somebody measures or waits for it.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer systemd-timesyncd.service getty@tty1.service \
	systemd-pcrphase.service systemd-pcrphase-sysinit.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# The identity is made at the first boot, and kept.
: >"$root/etc/machine-id"
