// Command pause holds a Pod's namespaces open: it does nothing until it is told to end.
//
// Ignoring SIGCHLD lets the kernel reap the orphans of a Pod that shares its process namespace.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGCHLD)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
