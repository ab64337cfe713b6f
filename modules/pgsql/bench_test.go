package pgsql

import (
	"fmt"
	"strings"
	"testing"
)

const (
	benchSelect = "SELECT abalance FROM pgbench_accounts WHERE aid = 12345"
	benchJoin   = `SELECT o.id, o.created_at, c.name, sum(i.price * i.quantity) AS total FROM orders o
		JOIN customers c ON c.id = o.customer_id LEFT JOIN items i ON i.order_id = o.id
		WHERE o.status IN ('open', 'paid') AND o.created_at > now() - interval '7 days' AND c.region = 'eu'
		GROUP BY o.id, o.created_at, c.name HAVING sum(i.price * i.quantity) > 100 ORDER BY total DESC LIMIT 20 OFFSET 40`
)

func BenchmarkHitByText(b *testing.B) {
	for name, sql := range map[string]string{"select": benchSelect, "join": benchJoin} {
		b.Run(name, func(b *testing.B) {
			c, text := New(Options{}), []byte(sql)
			c.ClassifyExact(text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				c.ClassifyExact(text)
			}
		})
	}
}

func BenchmarkHitByKey(b *testing.B) {
	for name, sql := range map[string]string{
		"select": benchSelect, "join": benchJoin,
		"list": "SELECT a FROM t WHERE b IN (" + strings.Repeat("123456, ", 999) + "1)",
	} {
		b.Run(name, func(b *testing.B) {
			c, text := New(Options{}), []byte(sql)
			c.Classify(text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				c.Classify(text)
			}
		})
	}
}

func BenchmarkHitInParallel(b *testing.B) {
	c, text := New(Options{}), []byte(benchSelect)
	c.Classify(text)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.Classify(text)
		}
	})
}

func BenchmarkMiss(b *testing.B) {
	for name, sql := range map[string]string{"select": benchSelect, "join": benchJoin} {
		b.Run(name, func(b *testing.B) {
			c := New(Options{CacheBytes: 1 << 20})
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				c.ClassifyExact(fmt.Appendf(nil, "%s /* %d */", sql, i))
			}
		})
	}
}

func BenchmarkParseAlone(b *testing.B) {
	for name, sql := range map[string]string{"select": benchSelect, "join": benchJoin} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parse(sql); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
