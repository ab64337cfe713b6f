package session

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// caseTests says which tests show each sentence of the promises to clients, by the number of the case. Rows and sentences named by the
// same numbers are in case_rows_test.go, case_rows2_test.go, case_state_test.go and case_transaction_test.go.
var caseTests = []struct{ number, sentence, tests string }{
	{"1", "all statements of a Query run on one server, by the strictest; one error undoes all", "TestCasesOfRouting TestAClientSeesTheSameMessagesAsFromOneServer"},
	{"2", "a pipeline is one transaction, on the primary when it writes; errors skip to Sync; segments at once; replies in order", "TestCasesOfRouting TestExtendedMessagesAreAnsweredAsByOneServer TestPipelinesAndBatches TestPgxPipelines"},
	{"3", "locking clauses at any depth, LOCK TABLE", "TestCasesOfRouting"},
	{"4", "writes in the clothing of SELECT; what reads all the same", "TestCasesOfRouting TestEachStatementOfTheCorpusHasItsClass"},
	{"4a", "statements about the server itself; multi-host drivers", "TestCasesOfRouting TestDriversFindTheirServerAmongSeveral TestLibpqChoosesAmongPorts"},
	{"5", "functions, what reaches them, and changes of them", "TestCasesOfRouting TestWhatTheSchemaAddsToAStatement TestASchemaChangeCountsAtOnceForWhoMadeIt TestGlobsOverrideWhatAFunctionIsTakenFor TestASeedIsNobodyElses"},
	{"6", "unlogged, foreign and temporary relations", "TestCasesOfRouting TestTemporaryTablesStayWithTheirSession"},
	{"7", "a transaction stays on one server; READ ONLY on a replica; 25006, 0A000; snapshots; deferred BEGIN", "TestCasesOfTransactions TestATransactionOnAReplicaSaysHowToReachThePrimary TestASnapshotIsSetWhereItWasExported TestAnEmptyTransactionTouchesNoServer TestTransactions TestDriverPgDump"},
	{"8", "hints by comment, startup parameter and setting", "TestCasesOfRouting TestHintsDecideWhereAStatementRuns TestAHintInTheStartupPacketHolds TestAWriteThatIsSentToAReplicaIsRefused TestABadValueOfASettingOfOursIsAnError"},
	{"9", "what a standby refuses runs on the primary once, unseen, is remembered and counted", "TestCasesOfRouting TestWhatAStandbyRefusedRunsOnThePrimaryNextTime"},
	{"10", "what is not understood goes to the primary; limits, encodings, nesting", "TestCasesOfRouting TestTextsOverTheLimitAreKnownOnlyIfTheyAreOnePlainInsertOrCopy TestTextsTooDeepForTheParserAreUnknown TestStringsAreReadAsTheServerReadsThem TestEncodingsInWhichAQuoteMayBePartOfACharacter"},
	{"11", "settings by SET, set_config, RESET, in transactions and savepoints; roles; never another client's", "TestCasesOfSessionState TestSettingsFollowTheSessionAndNobodyElse TestNothingOfASessionReachesTheNextOne TestRoleSurvivesResetAllAndReachesNobodyElse TestResetInATransactionBringsBackTheStartupPacketsValue"},
	{"12", "DISCARD ALL and its parts, DEALLOCATE, CLOSE ALL", "TestCasesOfSessionState TestPreparedStatementsBelongToTheirSession"},
	{"13", "prepared statements: names, types, errors, the unnamed one, sharing, eviction, changed results", "TestPreparedStatementsBelongToTheirSession TestASharedStatementIsParsedAnewWhenItsResultChanged TestAStatementIsPreparedAnewWhereItsTableHasChanged TestPgxSharesPreparedStatements TestCasesOfSessionState"},
	{"14", "portals with a row limit, interleaved; WITH HOLD", "TestExtendedMessagesAreAnsweredAsByOneServer TestCasesOfSessionState TestStreamsTakeBoundedMemory"},
	{"15", "pins, their reasons and ends; sequences; max_pinned", "TestPinsEndWithWhatTheyWereFor TestAFailedTryForALockLeavesNoPin TestPinsLeaveAPartOfThePoolToOthers TestLastvalWorksOnceASessionHasAskedForIt TestSequencesShowNothingOfOtherSessions TestCasesOfSessionState"},
	{"16", "notifications while idle; LISTEN rolled back", "TestNotificationsArriveWhileIdle TestPgxListens TestPinsEndWithWhatTheyWereFor TestCasesOfSessionState"},
	{"17", "COPY both ways, both protocols; CopyFail; errors in mid-stream; clients that leave; 1 GB", "TestCopyIsAnsweredAsByOneServer TestACopyWithACloseBehindItIsCompleted TestCopyBothWays TestPgxCopies TestBadInputDisturbsNobody TestStreamsTakeBoundedMemory"},
	{"18", "versions, negotiation, TLS in all its ways, startup parameters, replication, probes", "TestStartupIsAnsweredAsByPostgreSQL TestOldProtocolsAreRefusedInTheirOwnForm TestTheWaysIntoTLS TestNothingIsTakenBeforeTheHandshake TestReplicationGoesToThePrimary TestPgIsReadyAndPgDump TestStartupOptionsOfLibpq"},
	{"19", "a cancel hits the own statement only, also in the queue; clients that leave", "TestCancelEndsOnlyTheOwnStatement TestAConnectionWithACancelInFlightIsNotHandedOn TestAClientThatWaitsInTheQueueCanBeCancelled TestAClientThatLeavesHasItsStatementCancelled TestCancelKeysOfBothLengths"},
	{"20", "wide rows, many columns, parameters, long texts, slow clients; lengths before memory", "TestStreamsTakeBoundedMemory TestCasesOfSizes TestReaderRefusesLengths TestAnIdleClientCostsLittle"},
	{"21", "bad input ends with an error, no panic, no leak, nobody else disturbed", "TestBadClientsAreTurnedAwayAndOthersGoOn TestBadInputDisturbsNobody TestSilentClientsAreSentAwayInTheEnd FuzzClientBytes"},
	{"21a", "errors made by us fail the transaction on the server, too", "TestPreparedStatementsBelongToTheirSession TestABadValueOfASettingOfOursIsAnError TestATransactionOnAReplicaSaysHowToReachThePrimary"},
	{"21b", "Flush: a batch with Execute goes to the primary, one without binds nothing", "TestCasesOfRouting TestExtendedMessagesAreAnsweredAsByOneServer"},
}

// TestEveryCaseHasItsTests keeps the list true: every case up to 21b is in it, and what it names exists.
func TestEveryCaseHasItsTests(t *testing.T) {
	exist := make(map[string]bool)
	for _, dir := range []string{".", "../../integration", "../pgsql", "../catalog", "../pool", "../pgwire"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
					exist[f.Name.Name] = true
				}
			}
		}
	}
	want := strings.Fields("1 2 3 4 4a 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 21a 21b")
	var have []string
	for _, c := range caseTests {
		have = append(have, c.number)
		for _, name := range strings.Fields(c.tests) {
			if !exist[name] {
				t.Errorf("case %s names %s, which is not there", c.number, name)
			}
		}
	}
	if !slices.Equal(have, want) {
		t.Errorf("the list has the cases %v, want %v", have, want)
	}
}
