package pgsql

import (
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// statement is what a kind of statement does by itself, before what is in it.
type statement struct {
	effects Effects
	kind    Kind
	// quoted: what is in it does not run now.
	quoted bool
}

// Every kind of node that PostgreSQL's raw parser makes is in exactly one of statements, parts and utilities
// (utility.go); the test compares them with the parser's list. A kind that is in none is Unknown.
var (
	statements = statementTable()
	parts      = nameSet(partNames)
)

// ddlNames are statements that change the schema, roles or databases, and may run expressions in doing so.
const ddlNames = `
	CreateSchemaStmt AlterTableStmt AlterCollationStmt AlterDomainStmt GrantStmt GrantRoleStmt
	CreateTableSpaceStmt DropTableSpaceStmt AlterTableSpaceOptionsStmt AlterTableMoveAllStmt
	CreateExtensionStmt AlterExtensionStmt AlterExtensionContentsStmt CreateFdwStmt AlterFdwStmt
	CreateForeignServerStmt AlterForeignServerStmt CreateUserMappingStmt AlterUserMappingStmt DropUserMappingStmt
	ImportForeignSchemaStmt CreateAmStmt CreateEventTrigStmt AlterEventTrigStmt CreatePLangStmt
	CreateRoleStmt AlterRoleStmt DropRoleStmt CreateSeqStmt AlterSeqStmt DefineStmt CreateDomainStmt
	CreateOpClassStmt CreateOpFamilyStmt AlterOpFamilyStmt DropStmt CommentStmt SecLabelStmt IndexStmt
	CreateStatsStmt AlterStatsStmt RenameStmt AlterObjectDependsStmt AlterObjectSchemaStmt AlterOwnerStmt
	AlterOperatorStmt AlterTypeStmt CompositeTypeStmt CreateEnumStmt CreateRangeStmt AlterEnumStmt
	CreatedbStmt AlterDatabaseStmt AlterDatabaseRefreshCollStmt DropdbStmt CreateConversionStmt CreateCastStmt
	CreateTransformStmt DropOwnedStmt ReassignOwnedStmt AlterTSDictionaryStmt AlterTSConfigurationStmt
	CreatePublicationStmt AlterPublicationStmt CreateSubscriptionStmt AlterSubscriptionStmt DropSubscriptionStmt`

// definitionNames are those of which what is in them is only written down: bodies, defaults, other sessions' settings.
const definitionNames = `
	CreateStmt CreateForeignTableStmt CreatePolicyStmt AlterPolicyStmt CreateTrigStmt CreateFunctionStmt
	AlterFunctionStmt RuleStmt ViewStmt AlterDefaultPrivilegesStmt AlterRoleSetStmt AlterDatabaseSetStmt`

// partNames are the nodes that statements are made of.
const partNames = `
	RawStmt List Integer Float Boolean String BitString A_Const
	Alias RangeVar IntoClause GroupingFunc MergeSupportFunc NamedArgExpr BoolExpr SubLink CollateClause CaseExpr CaseWhen
	RowExpr CoalesceExpr MinMaxExpr SQLValueFunction XmlExpr XmlSerialize NullTest BooleanTest SetToDefault
	CurrentOfExpr JoinExpr TypeName ColumnRef ParamRef A_Expr TypeCast RoleSpec FuncCall A_Star A_Indices
	A_Indirection A_ArrayExpr ResTarget MultiAssignRef SortBy WindowDef RangeSubselect RangeFunction RangeTableFunc
	RangeTableFuncCol RangeTableSample ColumnDef TableLikeClause IndexElem DefElem LockingClause
	PartitionElem PartitionSpec PartitionBoundSpec PartitionRangeDatum SinglePartitionSpec PartitionCmd
	GroupingSet WithClause InferClause OnConflictClause CTESearchClause CTECycleClause CommonTableExpr
	MergeWhenClause TriggerTransition
	JsonFormat JsonReturning JsonValueExpr JsonIsPredicate JsonBehavior JsonOutput JsonArgument JsonFuncExpr
	JsonTablePathSpec JsonTable JsonTableColumn JsonKeyValue JsonParseExpr JsonScalarExpr JsonSerializeExpr
	JsonObjectConstructor JsonArrayConstructor JsonArrayQueryConstructor JsonAggConstructor JsonObjectAgg JsonArrayAgg
	AlterTableCmd ReplicaIdentityStmt ObjectWithArgs AccessPriv Constraint CreateOpClassItem StatsElem
	FunctionParameter VacuumRelation PublicationTable PublicationObjSpec ReturnStmt`

// neverNames are made by later stages than the raw parser, or only for PL/pgSQL: they would be Unknown.
const neverNames = `
	TableFunc Var Param Aggref WindowFunc WindowFuncRunCondition SubscriptingRef FuncExpr OpExpr DistinctExpr NullIfExpr
	ScalarArrayOpExpr SubPlan AlternativeSubPlan FieldSelect FieldStore RelabelType CoerceViaIO ArrayCoerceExpr
	ConvertRowtypeExpr CaseTestExpr ArrayExpr RowCompareExpr JsonConstructorExpr JsonExpr JsonTablePath CollateExpr
	JsonTablePathScan JsonTableSiblingJoin MergeAction CoerceToDomain CoerceToDomainValue NextValueExpr InferenceElem
	TargetEntry RangeTblRef FromExpr OnConflictExpr Query RangeTblEntry RTEPermissionInfo RangeTblFunction
	TableSampleClause WithCheckOption SortGroupClause WindowClause RowMarkClause SetOperationStmt PLAssignStmt
	InlineCodeBlock CallContext IntList OidList`

func statementTable() map[protoreflect.Name]statement {
	table := map[protoreflect.Name]statement{
		"SelectStmt":         {effects: Read, kind: KindRead},
		"InsertStmt":         {effects: Write, kind: KindWrite},
		"UpdateStmt":         {effects: Write, kind: KindWrite},
		"DeleteStmt":         {effects: Write, kind: KindWrite},
		"MergeStmt":          {effects: Write, kind: KindWrite},
		"TruncateStmt":       {effects: Write, kind: KindWrite},
		"CreateTableAsStmt":  {effects: Write | DDL, kind: KindDDL},
		"RefreshMatViewStmt": {effects: Write, kind: KindUtility},
		"ClusterStmt":        {effects: Write, kind: KindUtility},
		"ReindexStmt":        {effects: Write, kind: KindUtility},
		"VacuumStmt":         {effects: Write, kind: KindUtility},
		"AlterSystemStmt":    {effects: Write, kind: KindUtility, quoted: true},
		"LockStmt":           {effects: RowLock, kind: KindUtility},
		"CheckPointStmt":     {effects: ServerState, kind: KindUtility},
		"ConstraintsSetStmt": {effects: ServerState, kind: KindSet},
		"NotifyStmt":         {effects: Notify, kind: KindUtility},
		"ListenStmt":         {effects: Listen, kind: KindUtility},
		"LoadStmt":           {effects: Load, kind: KindUtility},
		"CallStmt":           {effects: Write | Unknown, kind: KindWrite},
		"DoStmt":             {effects: Write | Unknown, kind: KindWrite},
	}
	for _, name := range strings.Fields(ddlNames) {
		table[protoreflect.Name(name)] = statement{effects: DDL, kind: KindDDL}
	}
	for _, name := range strings.Fields(definitionNames) {
		table[protoreflect.Name(name)] = statement{effects: DDL, kind: KindDDL, quoted: true}
	}
	return table
}

func nameSet(names string) map[protoreflect.Name]bool {
	set := map[protoreflect.Name]bool{}
	for _, name := range strings.Fields(names) {
		set[protoreflect.Name(name)] = true
	}
	return set
}
