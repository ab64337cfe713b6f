package fairway

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

var update = flag.Bool("update", false, "rewrite testdata/modules.txt")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// packagePath returns the package of a module's type.
func packagePath(m caddy.Module) string {
	t := reflect.TypeOf(m)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.PkgPath()
}

// What a build with this package registers is API: names in configurations. `make modules` compares the same list with
// what a binary built by xcaddy says.
func TestModulesAreTheGoldenOnes(t *testing.T) {
	var ours []string
	for _, id := range caddy.Modules() {
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(packagePath(info.New()), "github.com/fairwaydb/fairway/") {
			ours = append(ours, id+"\n")
		}
	}
	slices.Sort(ours)
	got := strings.Join(ours, "")
	golden := filepath.Join("testdata", "modules.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("registered are\n%s\nand %s says\n%s", got, golden, want)
	}
}

func TestTheDemoIsACommand(t *testing.T) {
	if _, ok := caddycmd.Commands()["postgres-demo"]; !ok {
		t.Error("there is no command postgres-demo")
	}
}
