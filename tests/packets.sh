# Sourced by tests of images: whether anything left a box.
# shellcheck shell=bash

# nothing_left FILE...: in these captures is nothing but the ports that the box answers on, and what a house's network itself
# asks for: neighbours' and routers' addresses, who hears which multicast (with a hop-by-hop header), an address.
nothing_left() {
  local packets left
  local expected='arp or icmp6 or (ip6 proto 0 and dst net ff02::/16) or (udp and (port 67 or port 68)) or (tcp and (port 8080 or port 8883 or port 1883))'
  for packets in "$@"; do
    left=$(tcpdump -nr "$packets" "not ($expected)" 2> /dev/null) || fail "there is no capture of packets"
    [ -z "$left" ] || fail "these left: $left"
    tcpdump -nr "$packets" 2> /dev/null | wc -l | sed 's/$/ packets at its network card, and nothing left/'
  done
}
