package load

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairwaydb/fairway/modules/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestAgainstARealServer(t *testing.T) {
	cluster, err := pgtest.Start(t.Context(), pgtest.Options{Auth: pgtest.AuthSCRAM})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	target := Target{Addr: cluster.Primary().Addr(), User: cluster.Superuser(), Password: cluster.Password(), Database: "postgres"}

	t.Run("a crowd logs in by SCRAM and works", func(t *testing.T) {
		crowd, arrival := Gather(t.Context(), target, 8, 4)
		defer crowd.Close()
		if arrival.Failed != 0 || len(arrival.Logins) != 8 || len(crowd.Clients) != 8 {
			t.Fatalf("%d came in, %d failed: %v", len(crowd.Clients), arrival.Failed, arrival.First)
		}
		result, err := crowd.Run(t.Context(), 100*time.Millisecond, func(c *Client, _, turn int) error {
			return c.Query("SELECT " + strconv.Itoa(turn))
		})
		if err != nil {
			t.Fatal(err)
		}
		if result.Transactions == 0 || result.TPS == 0 || int64(len(result.Latencies)) != result.Transactions {
			t.Errorf("got %d transactions, %v per second, %d latencies", result.Transactions, result.TPS, len(result.Latencies))
		}
	})

	t.Run("a prepared statement takes a parameter", func(t *testing.T) {
		c, err := Dial(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Prepare("p", "SELECT 1 / $1::int"); err != nil {
			t.Fatal(err)
		}
		if err := c.Execute("p", "1"); err != nil {
			t.Error(err)
		}
		if err := c.Execute("p", "0"); err == nil || !strings.Contains(err.Error(), "22012") {
			t.Errorf("division by zero: got %v, want 22012", err)
		}
	})

	t.Run("a wrong password is refused", func(t *testing.T) {
		wrong := target
		wrong.Password = "wrong"
		crowd, arrival := Gather(t.Context(), wrong, 2, 2)
		defer crowd.Close()
		if arrival.Failed != 2 || arrival.First == nil || !strings.Contains(arrival.First.Error(), "28P01") {
			t.Errorf("%d failed: %v, want 2 with 28P01", arrival.Failed, arrival.First)
		}
	})
}

func TestAServerThatDoesNotKnowThePasswordIsFoundOut(t *testing.T) {
	s := newSCRAM("secret")
	nonce := strings.TrimPrefix(s.bare, "n=,r=")
	if _, err := s.answer("r=other,s=c2FsdA==,i=4096"); err == nil {
		t.Error("a nonce of somebody else's is accepted")
	}
	if _, err := s.answer("r=" + nonce + "more,s=c2FsdA==,i=4096"); err != nil {
		t.Fatal(err)
	}
	if err := s.verify("v=c2FsdA=="); err == nil {
		t.Error("a wrong signature is accepted")
	}
}
