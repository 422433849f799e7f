# Runs in each of several guests, as a child of the agent: the scenario's definitions, and then this guest's part. The array
# tells the story, the hosts do what they are told until it is over.
ROLE=$(cat /host/role)
. /host/lib.sh
. /host/cluster.sh
cables_up
script=/host/scenarios/$LAB_NAME.sh
[ -f "$script" ] || script=/host/$LAB_NAME.sh
. "$script"
if [ "$ROLE" != store ]; then
    serve
    save_part
    touch "/peers/$ROLE/saved"
    exit
fi
(
    for _host in host1 host2; do within 200 test -e "/peers/$_host/up"; done
    story
)
rc=$?
touch /peers/over
save_part
for _host in host1 host2; do waitfor 15 test -e "/peers/$_host/saved"; done
exit $rc
