// types.ts
//	What the JSON schemas are made from: the types that the official client publishes, under names of
//	our own (schema.mjs). Where the client allows a partial object, an answer of the simulator must
//	be the full one: else nearly everything would pass.
import type * as E from "@notionhq/client";

type Full<List, Item> = Omit<List, "results"> & { results: Item[] };

export type ReqGetSelf = E.GetSelfParameters;
export type ReqGetUser = E.GetUserParameters;
export type ReqListUsers = E.ListUsersParameters;
export type ReqCreateDatabase = E.CreateDatabaseParameters;
export type ReqGetDatabase = E.GetDatabaseParameters;
export type ReqUpdateDatabase = E.UpdateDatabaseParameters;
export type ReqCreateDataSource = E.CreateDataSourceParameters;
export type ReqGetDataSource = E.GetDataSourceParameters;
export type ReqUpdateDataSource = E.UpdateDataSourceParameters;
export type ReqQueryDataSource = E.QueryDataSourceParameters;
export type ReqListTemplates = E.ListDataSourceTemplatesParameters;
export type ReqCreatePage = E.CreatePageParameters;
export type ReqGetPage = E.GetPageParameters;
export type ReqUpdatePage = E.UpdatePageParameters;
export type ReqMovePage = E.MovePageParameters;
export type ReqGetPageProperty = E.GetPagePropertyParameters;
export type ReqGetMarkdown = E.GetPageMarkdownParameters;
export type ReqUpdateMarkdown = E.UpdatePageMarkdownParameters;
export type ReqGetBlock = E.GetBlockParameters;
export type ReqDeleteBlock = E.DeleteBlockParameters;
export type ReqListBlocks = E.ListBlockChildrenParameters;
export type ReqAppendBlocks = E.AppendBlockChildrenParameters;
export type ReqCreateComment = E.CreateCommentParameters;
export type ReqListComments = E.ListCommentsParameters;
export type ReqGetComment = E.GetCommentParameters;
export type ReqSearch = E.SearchParameters;

export type ResUser = E.UserObjectResponse;
export type ResUsers = E.ListUsersResponse;
export type ResDatabase = E.DatabaseObjectResponse;
export type ResDataSource = E.DataSourceObjectResponse;
export type ResQuery = Full<E.QueryDataSourceResponse, E.PageObjectResponse>;
export type ResTemplates = E.ListDataSourceTemplatesResponse;
export type ResPage = E.PageObjectResponse;
export type ResPageProperty = E.GetPagePropertyResponse;
export type ResMarkdown = E.GetPageMarkdownResponse;
export type ResBlock = E.BlockObjectResponse;
export type ResBlocks = Full<E.ListBlockChildrenResponse, E.BlockObjectResponse>;
export type ResComment = E.CommentObjectResponse;
export type ResComments = Full<E.ListCommentsResponse, E.CommentObjectResponse>;
export type ResSearch = Full<E.SearchResponse, E.PageObjectResponse | E.DataSourceObjectResponse>;

// The envelope of errors; the codes are those of the client's APIErrorCode.
export type ResError = {
    object: "error";
    status: number;
    code: `${E.APIErrorCode}` | "missing_version" | "bad_gateway" | "database_connection_unavailable" | "row_limit_exceeded";
    message: string;
    request_id: string;
    additional_data?: Record<string, string | string[]>;
};
