// Package command is `caddy postgres`: what an operator does with a running load
// balancer, over its admin API.
package command

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "postgres",
		Usage: "<command>",
		Short: "Shows and changes the backends of a running PostgreSQL load balancer",
		Long: `
Talks to the admin endpoint of a running Caddy with the load balancer in it. What
is changed holds until it is changed back or the process ends, reloads included;
for good, change the configuration. docs/admin-api.md describes the API.`,
		CobraFunc: configure,
	})
}

// configure gives the command its flags and its subcommands.
func configure(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.String("address", "", "Address of the admin API (default: localhost:2019, or $CADDY_ADMIN)")
	flags.String("cluster", "", "Name of the cluster; may be left out when there is one")
	flags.Bool("json", false, "Write the API's reply")
	cmd.AddCommand(statusCommand(), addCommand(), removeCommand(), explainCommand(),
		operation("drain", "Takes a replica out of the reads; what runs on it ends there", "drained"),
		operation("resume", "Takes a drained replica back", "resumed"),
		operation("trip", "Opens the circuit breaker of a backend, as if it had failed", "out: its circuit is open"),
		operation("reset", "Closes the circuit breaker of a backend", "in: its circuit is closed"),
	)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// task is one run of a subcommand.
type task struct {
	*api
	cmd     *cobra.Command
	cluster string
	json    bool
}

// begin reads the flags that all have, and finds the cluster.
func begin(cmd *cobra.Command) (*task, error) {
	flags := cmd.Flags()
	address, err := flags.GetString("address")
	if err != nil {
		return nil, err
	}
	t := &task{cmd: cmd}
	if t.cluster, err = flags.GetString("cluster"); err != nil {
		return nil, err
	}
	if t.json, err = flags.GetBool("json"); err != nil {
		return nil, err
	}
	if address, err = caddycmd.DetermineAdminAPIAddress(address, nil, "", ""); err != nil {
		return nil, err
	}
	cmd.SilenceUsage = true // what goes wrong from here on is no wrong usage
	t.api = &api{address: address}
	if t.cluster == "" {
		t.cluster, err = t.onlyCluster()
	}
	return t, err
}

// onlyCluster returns the name of the cluster when there is one.
func (a *api) onlyCluster() (string, error) {
	var clusters []struct {
		Name string `json:"name"`
	}
	if err := a.call(http.MethodGet, "/postgres/clusters", nil, &clusters); err != nil {
		return "", err
	}
	switch len(clusters) {
	case 0:
		return "", fmt.Errorf("the Caddy at %s has no PostgreSQL cluster", a.address)
	case 1:
		return clusters[0].Name, nil
	}
	names := make([]string, len(clusters))
	for i, c := range clusters {
		names[i] = c.Name
	}
	return "", fmt.Errorf("there are several clusters: write --cluster and one of %s", strings.Join(names, ", "))
}

// path is that of the cluster, with more elements.
func (t *task) path(elements ...string) string {
	path := "/postgres/clusters/" + url.PathEscape(t.cluster)
	for _, e := range elements {
		path += "/" + url.PathEscape(e)
	}
	return path
}

// do asks for a change and says what has become of it.
func (t *task) do(method, path string, body any, done string, args ...any) error {
	var reply json.RawMessage
	if err := t.call(method, path, body, &reply); err != nil {
		return err
	}
	if t.json {
		t.say("%s", strings.TrimSpace(string(reply)))
		return nil
	}
	t.say(done, args...)
	return nil
}

// say writes a line.
func (t *task) say(format string, args ...any) {
	_, _ = fmt.Fprintf(t.cmd.OutOrStdout(), format+"\n", args...) // nobody is left to be told
}

// operation is a subcommand for one backend without options.
func operation(name, short, done string) *cobra.Command {
	return &cobra.Command{
		Use: name + " <backend>", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := begin(cmd)
			if err != nil {
				return err
			}
			return t.do(http.MethodPost, t.path("backends", args[0], name), nil, "%s: backend %s is %s", t.cluster, args[0], done)
		},
	}
}

func addCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "add <backend> <host:port>", Short: "Adds a backend at run time", Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			weight, err := cmd.Flags().GetFloat64("weight")
			if err != nil {
				return err
			}
			t, force, err := beginForced(cmd)
			if err != nil {
				return err
			}
			body := map[string]any{"name": args[0], "address": args[1], "weight": weight}
			return t.do(http.MethodPost, t.path("backends")+force, body, "%s: backend %s is added; it serves once it has been probed", t.cluster, args[0])
		},
	}
	cmd.Flags().Float64("weight", 1, "Share of reads relative to the other backends")
	cmd.Flags().Bool("force", false, "Do not wait for the end of the cooldown")
	return cmd
}

func removeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "remove <backend>", Short: "Removes a backend that was added at run time, once its transactions have ended", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, force, err := beginForced(cmd)
			if err != nil {
				return err
			}
			return t.do(http.MethodDelete, t.path("backends", args[0])+force, nil, "%s: backend %s leaves when its transactions have ended", t.cluster, args[0])
		},
	}
	cmd.Flags().Bool("force", false, "Do not wait for the end of the cooldown")
	return cmd
}

// beginForced is begin for a command with the flag force, which it returns as a query.
func beginForced(cmd *cobra.Command) (t *task, query string, err error) {
	force, err := cmd.Flags().GetBool("force")
	if err != nil {
		return nil, "", err
	}
	if force {
		query = "?force"
	}
	t, err = begin(cmd)
	return t, query, err
}

func explainCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "explain <statement>", Short: "Says where a statement would run, and why; nothing runs", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"sql": args[0]}
			for _, name := range []string{"database", "route"} {
				value, err := cmd.Flags().GetString(name)
				if err != nil {
					return err
				}
				if value != "" {
					body[name] = value
				}
			}
			t, err := begin(cmd)
			if err != nil {
				return err
			}
			var reply json.RawMessage
			if err := t.call(http.MethodPost, t.path("explain"), body, &reply); err != nil {
				return err
			}
			if t.json {
				t.say("%s", strings.TrimSpace(string(reply)))
				return nil
			}
			var text struct {
				Lines []string `json:"text"`
			}
			if err := json.Unmarshal(reply, &text); err != nil {
				return err
			}
			t.say("%s", strings.Join(text.Lines, "\n"))
			return nil
		},
	}
	cmd.Flags().String("database", "", "Whose schema counts (default: that of the credentials)")
	cmd.Flags().String("route", "", "As the setting fairway.route: auto, primary or replica")
	return cmd
}

// untilSignal returns a context that ends at Ctrl-C.
func untilSignal() (context.Context, context.CancelFunc) {
	// The command is the root of its contexts.
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}
