// Command kubernetes is a cluster's components and its client as one binary. It is started by the name of
// one of them, as a link to it: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet,
// kube-proxy, kubectl; and kube-router, an engine of network policies. Flags are that program's own, and so is
// the process: each component has one to itself.
//
// The components are upstream's, unchanged. They are built here because the Go module proxy has them
// everywhere, and as one binary because they share most of their code: eight would take eight times the
// linking and the disk.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	kuberouter "github.com/cloudnativelabs/kube-router/v2/pkg/cmd"
	kuberouteroptions "github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlerrors "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	// Only the command that was asked for is made: the API server's constructor installs the process's
	// signal handler, and a second one panics.
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		serve(apiserver.NewAPIServerCommand())
	case "kube-controller-manager":
		serve(controllermanager.NewControllerManagerCommand())
	case "kube-scheduler":
		serve(scheduler.NewSchedulerCommand())
	case "kubelet":
		serve(kubelet.NewKubeletCommand(context.Background()))
	case "kube-proxy":
		serve(proxy.NewProxyCommand())
	case "kubectl":
		// Whoever types a command wants its error as one line, not as a server's log entry.
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlerrors.CheckErr(err)
		}
	case "kube-router":
		if err := route(); err != nil {
			fmt.Fprintln(os.Stderr, "kube-router:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintf(os.Stderr, "%s is no component: start it by a link named etcd, kube-apiserver, "+
			"kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl or kube-router\n", name)
		os.Exit(2)
	}
}

func serve(command *cobra.Command) {
	os.Exit(cli.Run(command))
}

// As kube-router's own main does it, but for its flags: the other components have theirs in the process's set.
func route() error {
	config := kuberouteroptions.NewKubeRouterConfig()
	flags := pflag.NewFlagSet("kube-router", pflag.ContinueOnError)
	config.AddFlags(flags)
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	router, err := kuberouter.NewKubeRouterDefault(config)
	if err != nil {
		return err
	}
	return router.Run()
}
