# lab: time=90 long=backports
# what: CHAP one way and mutual; wrong or missing secrets are refused, and no secret appears anywhere
. /host/lib.sh
net_up
SECRET=secret-of-the-host MUTUAL=secret-of-the-array
chap_file() { # the file's text on standard input
    mkdir -p /etc/sanblk
    # A new file: an old one would keep its mode.
    rm -f /etc/sanblk/chap.toml
    (umask 077 && cat >/etc/sanblk/chap.toml)
}
nowhere() {
    for place in /run/sanblk /var/lib/sanblk /tmp/said; do
        ! grep -rqE -e "$SECRET|$MUTUAL" $place 2>/dev/null || fail "a secret in $place"
    done
    ! sanblk status --json | grep -qE "$SECRET|$MUTUAL" || fail "a secret in status --json"
    ! tr '\0' ' ' </proc/"$(daemon_pid)"/cmdline | grep -qE "$SECRET|$MUTUAL" || fail "a secret on a command line"
}
target_up chap=host1:$SECRET

say "no secret here: denied"
refused $DENIED sanblk attach --portal "$P5" --portal "$P6"
says 'chap|authent'

say "one way"
printf 'username = "host1"\nsecret = "%s"\n' $SECRET | chap_file
attached
verify_fill "$DEV" 8M
sanblk status >/tmp/said
nowhere
say "the reconnect authenticates too"
rst_once 5
within 15 paths_up 2
detach

say "wrong secret: denied, and not printed"
printf 'username = "host1"\nsecret = "wrong-secret-here"\n' | chap_file
refused $DENIED sanblk attach --portal "$P5"
! echo "$SAID" | grep -q wrong-secret || fail "the refusal prints the secret"

say "a file others can read: refused"
chmod 644 /etc/sanblk/chap.toml
refute sanblk attach --portal "$P5"
says 'chmod 600'
target_down

say "mutual"
target_up chap=host1:$SECRET mutual=array1:$MUTUAL disk=mutual
printf 'username = "host1"\nsecret = "%s"\ntarget-username = "array1"\ntarget-secret = "%s"\n' $SECRET $MUTUAL | chap_file
attached
verify_fill "$DEV" 8M
nowhere
detach
say "an array that proves itself wrongly is not believed"
printf 'username = "host1"\nsecret = "%s"\ntarget-secret = "not-what-it-knows"\n' $SECRET | chap_file
refute sanblk attach --portal "$P5"
target_down

say "a secret is asked for, the target wants none: no silent downgrade to an unproven array"
target_up disk=open
printf 'username = "host1"\nsecret = "%s"\ntarget-secret = "%s"\n' $SECRET $MUTUAL | chap_file
refute sanblk attach --portal "$P5"
