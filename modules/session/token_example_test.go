package session

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// remember gives the browser the position of what the request has written.
func remember(ctx context.Context, w http.ResponseWriter, conn *pgx.Conn) error {
	var token string
	if err := conn.QueryRow(ctx, "SHOW fairway.lsn").Scan(&token); err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{Name: "lsn", Value: token, Path: "/", MaxAge: 60, HttpOnly: true})
	return nil
}

// follow makes the reads of the request see what the browser's last one has written.
func follow(ctx context.Context, r *http.Request, conn *pgx.Conn) error {
	token := "" // nothing to wait for
	if cookie, err := r.Cookie("lsn"); err == nil {
		token = cookie.Value
	}
	_, err := conn.Exec(ctx, "SELECT set_config('fairway.min_lsn', $1, false)", token)
	return err
}

// The example of docs/consistency.md is this code, and it keeps what it promises.
func TestATokenTravelsInACookie(t *testing.T) {
	page, err := os.ReadFile("../../docs/consistency.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("token_example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) == 0 {
		t.Error("docs/consistency.md has no example in Go")
	}
	for _, b := range blocks {
		if !strings.Contains(string(source), b[1]) {
			t.Errorf("docs/consistency.md shows code that is not tested:\n%s", b[1])
		}
	}

	p := startProxy(t, pg, nil)
	writer, reader := p.connect(t, ""), p.connect(t, "")
	table(t, p, writer, "cookie_orders", "a int")
	freeze(t)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		if _, err := writer.Exec(r.Context(), "insert into cookie_orders values (1)"); err != nil {
			t.Error(err)
		}
		if err := remember(r.Context(), w, writer); err != nil {
			t.Error(err)
		}
	})
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		if err := follow(r.Context(), r, reader); err != nil {
			t.Error(err)
		}
		var n string
		if err := reader.QueryRow(r.Context(), "select count(*)::text from cookie_orders").Scan(&n); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte(n))
	})
	get := func(cookies ...*http.Cookie) string {
		r, w := httptest.NewRequest(http.MethodGet, "/orders", nil), httptest.NewRecorder()
		for _, c := range cookies {
			r.AddCookie(c)
		}
		mux.ServeHTTP(w, r)
		return w.Body.String()
	}
	posted := httptest.NewRecorder()
	mux.ServeHTTP(posted, httptest.NewRequest(http.MethodPost, "/orders", nil))
	if n := get(posted.Result().Cookies()...); n != "1" {
		t.Errorf("with the cookie %s orders are seen", n)
	}
	if n := get(); n != "0" {
		t.Errorf("another browser, on a frozen replica, sees %s orders", n)
	}
}

// The statements of docs/consistency.md answer what stands behind them.
func TestTheStatementsOfTheConsistencyPageAnswerWhatItSays(t *testing.T) {
	page, err := os.ReadFile("../../docs/consistency.md")
	if err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, pg, nil)
	sessions := map[string]*pgx.Conn{}
	admin := p.connect(t, "")
	table(t, p, admin, "jobs", "id int, payload text")
	token, n := "", 0
	for _, b := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		c := admin
		for line := range strings.Lines(b[1]) {
			line = strings.TrimSpace(line)
			sql, want, _ := strings.Cut(line, "-- ")
			if sql = strings.TrimSpace(sql); sql == "" {
				if sessions[want] == nil {
					sessions[want] = p.connect(t, "")
				}
				c = sessions[want]
				continue
			}
			n++
			sql = strings.ReplaceAll(sql, "0/16B3748", token)
			if want = strings.TrimSpace(want); want == "" {
				exec(t, c, sql, pgx.QueryExecModeSimpleProtocol)
				continue
			}
			got := value[string](t, c, strings.TrimSuffix(sql, ";"), pgx.QueryExecModeSimpleProtocol)
			if want == "0/16B3748" {
				if token == "" {
					token = got
				}
				want = token
			}
			if got != want {
				t.Errorf("%s\nanswers %q, the page says %q", sql, got, want)
			}
		}
	}
	if n < 5 {
		t.Errorf("the page has %d statements", n)
	}
}
