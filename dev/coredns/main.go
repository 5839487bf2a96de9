// Command coredns is CoreDNS with the plugins that the development cluster's Corefile names, and no others.
//
// The upstream command links all of them, and with them the SDKs of three clouds and of a tracing vendor:
// several hundred modules that would decide the versions of the Kubernetes components beside it.
package main

import (
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	coremain.Run()
}
