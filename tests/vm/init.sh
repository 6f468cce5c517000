#!/bin/sh
# The guest's first program: put a layer to write on over the machine's own files, which come read-only (what is read most by
# a disk: see disk.py), and go on there.
busybox=/bin/busybox
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sys /sys
$busybox mount -t devtmpfs dev /dev
for module in /modules/*; do $busybox insmod "$module"; done
$busybox mkdir -p /host /disk /layer
share="trans=virtio,version=9p2000.L,msize=65536"
$busybox mount -t 9p -o "$share,ro,cache=loose" host /host || $busybox poweroff -f
while [ ! -b /dev/vda ]; do $busybox usleep 10000; done
$busybox mount -t ext4 -o ro,noload /dev/vda /disk || $busybox poweroff -f
$busybox mount -t tmpfs layer /layer
$busybox mkdir /layer/upper /layer/work
$busybox mount -t overlay -o lowerdir=/disk:/host,upperdir=/layer/upper,workdir=/layer/work root /root || $busybox poweroff -f
for tree in proc sys dev; do $busybox mount -o move /$tree /root/$tree; done
$busybox mount -t tmpfs run /root/run
$busybox mkdir -p /root/run/job /root/run/modules /root/run/netns
$busybox mount -t 9p -o "$share" job /root/run/job
$busybox mount -t 9p -o "$share,ro,cache=loose" modules /root/run/modules
exec $busybox switch_root /root /bin/sh /run/job/boot
