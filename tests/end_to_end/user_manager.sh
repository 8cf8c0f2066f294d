#!/usr/bin/env bash
# A machine that was booted by systemd, as far as one user's manager can tell:
#
#   user_manager.sh HOME [FOLDER...]
#
# Namespaces of its own, with a cgroup2, a /run, a journal and a user "owner" whose home is HOME, and then
# the real `systemd --user` for that user. FOLDERs are shown to them even where the way there is closed.
# It says the number of its first process when it is up, and lives until its standard input ends; then
# whatever runs in it is killed, and nothing is left. For root.
set -eu
uid=4242 # nobody's

if [ "${PYNCHY_TEST_INNER:-}" = "" ]; then
    # Outside: a cgroup of its own, made in a mount namespace so that the host's are not looked at.
    if [ "${PYNCHY_TEST_OUTER:-}" = "" ]; then
        PYNCHY_TEST_OUTER=1 exec unshare --mount --propagation private "$BASH" "$0" "$@"
    fi
    mount -t cgroup2 none /sys/fs/cgroup
    above=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
    own=$above/pynchy-test-$$
    mkdir "$own"
    clean() { # the kernel takes a moment to forget the dead
        echo $$ >"$above/cgroup.procs"
        for _ in {1..50}; do
            find "$own" -depth -type d -exec rmdir {} + 2>/dev/null || true
            [ -d "$own" ] && sleep 0.1 || break
        done
    }
    trap clean EXIT
    echo $$ >"$own/cgroup.procs"
    status=0
    PYNCHY_TEST_INNER=1 unshare --cgroup --mount --pid --fork --mount-proc --kill-child "$BASH" "$0" "$@" || status=$?
    exit $status
fi

home=$1
shift
umount /sys/fs/cgroup # as seen from the cgroup that we had before
mount -t cgroup2 none /sys/fs/cgroup

# What is needed on a /run, in /etc and in /home.
mkdir -p /run
mount -t tmpfs -o mode=755 none /run
mkdir -p /run/systemd/system /run/systemd/journal /run/log/journal "/run/user/$uid"
for file in passwd group; do grep -v '^owner:' "/etc/$file" >"/run/$file"; done
echo "owner:x:$uid:$uid::/home/owner:/bin/bash" >>/run/passwd
echo "owner:x:$uid:" >>/run/group
for file in passwd group; do mount --bind "/run/$file" "/etc/$file"; done

# Folders behind a closed one are laid into an empty one in its place.
number=0
closed=()
mkdir /run/shown
for folder in "$home" "$@"; do
    number=$((number + 1))
    mkdir "/run/shown/$number"
    mount --rbind "$folder" "/run/shown/$number"
    while folder=$(dirname "$folder") && [ "$folder" != / ]; do
        [ $((0$(stat -c %a "$folder") & 1)) = 1 ] || closed+=("$folder")
    done
done
mount -t tmpfs -o mode=755 none /home
mkdir /home/owner
mount --bind /run/shown/1 /home/owner
for folder in ${closed[@]+"${closed[@]}"}; do
    mkdir -p "$folder" # it may be hidden by one above it by now
    mount -t tmpfs -o mode=755 none "$folder"
done
number=1
for folder in "$@"; do
    number=$((number + 1))
    mkdir -p "$folder"
    mount --rbind "/run/shown/$number" "$folder"
done

group=/sys/fs/cgroup/user.slice/user-$uid.slice/user@$uid.service
mkdir -p "$group/init.scope"
chown -R "$uid:$uid" "$group" /home/owner "/run/user/$uid"
chmod 700 "/run/user/$uid"

# A journal in memory, as a Raspberry Pi has it; with JOURNAL=none there is nobody who reads one.
[ "${JOURNAL:-}" = none ] || /lib/systemd/systemd-journald </dev/null >/dev/null 2>&1 &
(
    echo "$BASHPID" >"$group/init.scope/cgroup.procs"
    cd /home/owner
    exec setpriv --reuid "$uid" --regid "$uid" --init-groups \
        env --ignore-environment HOME=/home/owner USER=owner LOGNAME=owner SHELL=/bin/bash PATH=/usr/bin:/bin \
        XDG_RUNTIME_DIR="/run/user/$uid" /lib/systemd/systemd --user --log-target=journal </dev/null
) &
manager=$!
for _ in {1..100}; do
    [ -S "/run/user/$uid/systemd/private" ] && break
    kill -0 "$manager" 2>/dev/null || exit 1
    sleep 0.1
done
[ -S "/run/user/$uid/systemd/private" ]
echo up
read -r _ || true
