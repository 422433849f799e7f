# cargo lab shell: the array is up, sanblk is installed; what a person wants to type next is printed.
. /host/lib.sh
stty sane 2>/dev/null
net_up
target_up
initiator_name
modprobe ublk_drv
cat <<'TXT'
An array with one 1 GiB LUN answers on 10.20.5.254 and 10.20.6.254 (netns tgt). Try:
  sanblk attach --portal 10.20.5.254 --portal 10.20.6.254
  sanblk status
  ip -n tgt link set tsan5 down          # pull a cable
  . /host/lib.sh; kernel_stack_up        # the kernel's own stack on the same LUN
TXT
cd /root
PS1='lab# ' exec setsid -c bash --norc -i </dev/hvc0 >/dev/hvc0 2>&1
